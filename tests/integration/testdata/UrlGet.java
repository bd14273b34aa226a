import java.io.InputStream;
import java.net.HttpURLConnection;
import java.net.URL;
import java.security.MessageDigest;
import java.util.HexFormat;

/** UrlGet URL: prints the SHA-256 of what HttpURLConnection reads. */
public class UrlGet {
    public static void main(String[] args) throws Exception {
        var connection = (HttpURLConnection) new URL(args[0]).openConnection();
        connection.setConnectTimeout(20000);
        connection.setReadTimeout(20000);
        var hash = MessageDigest.getInstance("SHA-256");
        try (InputStream in = connection.getInputStream()) {
            byte[] block = new byte[65536];
            for (int n; (n = in.read(block)) > 0;) hash.update(block, 0, n);
        }
        System.out.println(HexFormat.of().formatHex(hash.digest()));
    }
}
