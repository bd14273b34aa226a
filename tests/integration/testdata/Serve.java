import java.io.BufferedInputStream;
import java.io.InputStream;
import java.net.InetAddress;
import java.net.ServerSocket;
import java.net.Socket;
import java.nio.file.Files;
import java.nio.file.Path;

/** Serve PORT FILE: HTTP, a thread for each connection. GET gives the file, POST what was sent. */
public class Serve {
    static String line(InputStream in) throws Exception {
        var line = new StringBuilder();
        for (int c = in.read(); c != '\n' && c >= 0; c = in.read())
            if (c != '\r') line.append((char) c);
        return line.toString();
    }

    static void handle(Socket socket, Path file) throws Exception {
        try (socket) {
            var in = new BufferedInputStream(socket.getInputStream());
            String request = line(in);
            int length = 0;
            for (String l = line(in); !l.isEmpty(); l = line(in))
                if (l.toLowerCase().startsWith("content-length:")) length = Integer.parseInt(l.substring(15).trim());
            byte[] body = request.startsWith("POST") ? in.readNBytes(length) : Files.readAllBytes(file);
            var out = socket.getOutputStream();
            out.write(("HTTP/1.0 200 OK\r\nX-Client: " + socket.getInetAddress().getHostAddress()
                + "\r\nContent-Length: " + body.length + "\r\n\r\n").getBytes());
            out.write(body);
        }
    }

    public static void main(String[] args) throws Exception {
        try (var server = new ServerSocket(Integer.parseInt(args[0]), 50, InetAddress.getByName("127.0.0.1"))) {
            while (true) {
                Socket socket = server.accept();
                new Thread(() -> {
                    try { handle(socket, Path.of(args[1])); } catch (Exception e) { e.printStackTrace(); }
                }).start();
            }
        }
    }
}
