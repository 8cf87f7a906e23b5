import java.nio.charset.StandardCharsets;
import java.util.Arrays;
import org.apache.kafka.common.utils.Exit;
import org.apache.kafka.tools.AclCommand;

/** Runs lines of {@code kafka-acls.sh} from standard input, in one process: a JVM for each would take a second for each. */
public class Acls {
    public static void main(String[] arguments) throws Exception {
        Exit.setExitProcedure((status, message) -> {
            if (status != 0) {
                System.err.println(message);
                Runtime.getRuntime().halt(status);
            }
        });
        String text = new String(System.in.readAllBytes(), StandardCharsets.UTF_8);
        for (String line : text.split("\n")) {
            String[] words = line.split(" ");
            if (line.isEmpty() || line.startsWith("#")) {
                continue;
            }
            if (!words[0].equals("kafka-acls.sh")) {
                throw new IllegalArgumentException(line);
            }
            AclCommand.main(Arrays.copyOfRange(words, 1, words.length));
        }
    }
}
