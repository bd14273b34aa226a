"""serve_again.py PORT: three times: listens, serves one client that says something, and stops to listen."""
import socket
import sys

served = 0
while served < 3:
    with socket.create_server(("127.0.0.1", int(sys.argv[1]))) as listener:
        conn, _ = listener.accept()
    with conn:
        try:
            conn.sendall(b"hello\n")
            if data := conn.recv(65536):
                conn.sendall(data)
                served += 1
        except OSError:
            pass
