"""A mail server: prints its port, puts each message into a folder as a file, serves until its stdin ends.

Arguments: the address to listen on, the folder, and, if senders must log in, user and password.
"""

import itertools
import os
import socket
import sys

from aiosmtpd.controller import Controller
from aiosmtpd.smtp import AuthResult


class Folder:
    def __init__(self, path):
        self.path = path
        self.numbers = itertools.count(1)

    async def handle_DATA(self, server, session, envelope):
        name = os.path.join(self.path, f"{next(self.numbers):04}.eml")
        with open(name + ".partial", "wb") as file:
            recipients = ", ".join(envelope.rcpt_tos)
            file.write(f"X-Envelope: {envelope.mail_from} to {recipients}\r\n".encode())
            file.write(envelope.original_content)
        os.rename(name + ".partial", name)
        return "250 OK"


def main():
    host, folder, *login = sys.argv[1:]
    with socket.socket() as free:
        free.bind((host, 0))
        port = free.getsockname()[1]

    def authenticate(server, session, envelope, mechanism, data):
        good = login == [data.login.decode(), data.password.decode()]
        return AuthResult(success=good, handled=False)

    options = {}
    if login:
        options = {"authenticator": authenticate, "auth_required": True, "auth_require_tls": False}
    controller = Controller(Folder(folder), hostname=host, port=port, **options)
    controller.start()
    print(port, flush=True)
    sys.stdin.read()


if __name__ == "__main__":
    main()
