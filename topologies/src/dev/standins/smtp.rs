//! An SMTP server that takes every mail: as much of RFC 5321 as a well-behaved client needs.

use std::time::Duration;

use tokio::io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::{TcpListener, TcpStream};

use crate::events::Channel;

use super::{Outgoing, Shared, locked};

/// Lines of a mail that are read; the rest is passed over.
const LINES_MAX: usize = 10_000;
/// A connection that says nothing for so long is closed.
const IDLE_MAX: Duration = Duration::from_secs(300);

/// Serves connections until it is dropped.
pub(super) async fn serve(listener: TcpListener, taken: Shared) {
    while let Ok((stream, _)) = listener.accept().await {
        let taken = taken.clone();
        tokio::spawn(async move {
            let talk = talk(stream, &taken);
            // A client that goes away, or is silent, is no error of ours.
            let _ = tokio::time::timeout(IDLE_MAX, talk).await;
        });
    }
}

async fn talk(stream: TcpStream, taken: &Shared) -> std::io::Result<()> {
    let (read, mut write) = stream.into_split();
    let mut lines = BufReader::new(read).lines();
    let mut to = String::new();
    write.write_all(b"220 stand-in\r\n").await?;
    while let Some(line) = lines.next_line().await? {
        let verb = line.get(..4).unwrap_or_default().to_uppercase();
        let answer = match verb.as_str() {
            "EHLO" => "250-stand-in\r\n250 8BITMIME",
            "RCPT" => {
                line.split(['<', '>']).nth(1).unwrap_or_default().clone_into(&mut to);
                "250 ok"
            }
            "DATA" => {
                write.write_all(b"354 go on\r\n").await?;
                let mut mail = Vec::new();
                while let Some(line) = lines.next_line().await? {
                    if line == "." {
                        break;
                    }
                    if mail.len() < LINES_MAX {
                        mail.push(line);
                    }
                }
                locked(taken).add(read_mail(&to, &mail));
                "250 taken"
            }
            "QUIT" => {
                write.write_all(b"221 bye\r\n").await?;
                return Ok(());
            }
            "HELO" | "MAIL" | "RSET" | "NOOP" => "250 ok",
            _ => "502 not here",
        };
        write.write_all(format!("{answer}\r\n").as_bytes()).await?;
    }
    Ok(())
}

fn read_mail(to: &str, lines: &[String]) -> Outgoing {
    let title = header(lines, "subject");
    let id = header(lines, "message-id");
    Outgoing { channel: Channel::Email, to: to.to_owned(), title: decode_words(&title), id }
}

/// A header's value, with its continuation lines.
fn header(lines: &[String], name: &str) -> String {
    let mut value = String::new();
    let mut inside = false;
    for line in lines.iter().take_while(|line| !line.is_empty()) {
        if line.starts_with([' ', '\t']) {
            if inside {
                value.push(' ');
                value.push_str(line.trim());
            }
            continue;
        }
        inside = false;
        if let Some((found, text)) = line.split_once(':')
            && found.eq_ignore_ascii_case(name)
        {
            inside = true;
            text.trim().clone_into(&mut value);
        }
    }
    value
}

/// Encoded words of RFC 2047 in UTF-8 and base64, which is how lettre writes what is not ASCII.
fn decode_words(text: &str) -> String {
    let mut decoded = String::new();
    let mut was_word = false;
    for part in text.split(' ') {
        let word = part
            .strip_prefix("=?utf-8?b?")
            .and_then(|rest| rest.strip_suffix("?="))
            .and_then(base64);
        // The space between two encoded words is not part of the text.
        let joins = was_word && word.is_some();
        if !decoded.is_empty() && !joins {
            decoded.push(' ');
        }
        was_word = word.is_some();
        decoded.push_str(word.as_deref().unwrap_or(part));
    }
    decoded
}

fn base64(text: &str) -> Option<String> {
    const DIGITS: &[u8] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let (mut bytes, mut bits, mut value) = (Vec::new(), 0u32, 0u32);
    for byte in text.bytes().take_while(|byte| *byte != b'=') {
        let digit = DIGITS.iter().position(|digit| *digit == byte)?;
        value = (value << 6) | u32::try_from(digit).ok()?;
        bits += 6;
        if bits >= 8 {
            bits -= 8;
            bytes.push((value >> bits) as u8);
            value &= (1 << bits) - 1;
        }
    }
    String::from_utf8(bytes).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn headers_are_read_with_their_continuations_and_encoded_words() {
        let lines: Vec<String> = [
            "To: a@b",
            "Subject: =?utf-8?b?0JfQsNGP0LLQutCw?= 7",
            " =?utf-8?b?0LE=?= =?utf-8?b?0LE=?=",
            "Message-ID: <1@x>",
            "",
            "Subject: not this",
        ]
        .map(str::to_owned)
        .to_vec();
        let mail = read_mail("a@b", &lines);
        assert_eq!((mail.title.as_str(), mail.id.as_str()), ("Заявка 7 бб", "<1@x>"));
    }
}
