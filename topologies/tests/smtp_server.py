"""An SMTP server (aiosmtpd) for tests: prints a line of JSON for each mail that it has taken.

Arguments: port, then optionally a folder for a certificate (STARTTLS is required then) and NAME:PASSWORD (login is required
then). Prints {"port": …} when it listens; ends with its standard input.
"""

import datetime
import ipaddress
import json
import ssl
import sys
from email import message_from_bytes, policy
from pathlib import Path

from aiosmtpd.controller import Controller
from aiosmtpd.smtp import AuthResult


def certificate(folder):
    """Makes a certificate for 127.0.0.1 that signs itself."""
    from cryptography import x509
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec

    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "127.0.0.1")])
    now = datetime.datetime.now(datetime.timezone.utc)
    made = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(days=1))
        .not_valid_after(now + datetime.timedelta(days=2))
        .add_extension(
            x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]), False
        )
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), True)
        .sign(key, hashes.SHA256())
    )
    (folder / "cert.pem").write_bytes(made.public_bytes(serialization.Encoding.PEM))
    (folder / "key.pem").write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )
    )
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(folder / "cert.pem", folder / "key.pem")
    return context


def say(what):
    print(json.dumps(what), flush=True)


class Handler:
    """Takes mails, but for those to refused@, and those to busy@ for now."""

    async def handle_RCPT(self, server, session, envelope, address, options):
        if address.startswith("refused@"):
            return "550 no such user"
        if address.startswith("busy@"):
            return "450 try again later"
        envelope.rcpt_tos.append(address)
        return "250 OK"

    async def handle_DATA(self, server, session, envelope):
        mail = message_from_bytes(envelope.content, policy=policy.default)
        say(
            {
                "to": envelope.rcpt_tos[0],
                "id": mail["Message-ID"],
                "subject": mail["Subject"],
                "auto": mail["Auto-Submitted"],
                "traceparent": mail["traceparent"],
                "text": mail.get_content(),
                "tls": session.ssl is not None,
            }
        )
        return "250 OK"


def main():
    port, folder, login = int(sys.argv[1]), sys.argv[2:3], sys.argv[3:4]
    settings = {}
    if folder:
        settings.update(tls_context=certificate(Path(folder[0])), require_starttls=True)
    if login:
        expected = login[0].split(":", 1)

        def authenticate(server, session, envelope, mechanism, data):
            found = [data.login.decode(), data.password.decode()]
            return AuthResult(success=found == expected)

        settings.update(authenticator=authenticate, auth_required=True)
    controller = Controller(Handler(), hostname="127.0.0.1", port=port, **settings)
    controller.start()
    say({"port": port})
    sys.stdin.read()
    controller.stop()


main()
