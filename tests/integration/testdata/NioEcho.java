import java.net.InetSocketAddress;
import java.nio.ByteBuffer;
import java.nio.channels.SelectionKey;
import java.nio.channels.Selector;
import java.nio.channels.SocketChannel;
import java.util.Arrays;

/** NioEcho HOST PORT MARKER: a non-blocking channel, registered before it connects. */
public class NioEcho {
    public static void main(String[] args) throws Exception {
        byte[] sent = (args[2] + "\n").repeat(20000).getBytes();
        ByteBuffer out = ByteBuffer.wrap(sent), in = ByteBuffer.allocate(sent.length);
        try (var selector = Selector.open(); var channel = SocketChannel.open()) {
            channel.configureBlocking(false);
            var key = channel.register(selector, SelectionKey.OP_CONNECT);
            channel.connect(new InetSocketAddress(args[0], Integer.parseInt(args[1])));
            while (in.hasRemaining()) {
                if (selector.select(20000) == 0) throw new Exception("nothing in 20 s");
                selector.selectedKeys().clear();
                if (key.isConnectable() && channel.finishConnect())
                    key.interestOps(SelectionKey.OP_READ | SelectionKey.OP_WRITE);
                if (key.isWritable() && channel.write(out) >= 0 && !out.hasRemaining())
                    key.interestOps(SelectionKey.OP_READ);
                if (key.isReadable() && channel.read(in) < 0) throw new Exception("end of stream");
            }
        }
        System.out.println(Arrays.equals(sent, in.array()) ? "intact" : "wrong");
    }
}
