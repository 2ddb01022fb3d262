import io.grpc.CallOptions;
import io.grpc.ManagedChannelBuilder;
import io.grpc.MethodDescriptor;
import io.grpc.stub.ClientCalls;
import java.io.ByteArrayInputStream;
import java.io.InputStream;
import java.util.Collections;
import java.util.Map;
import java.util.TreeMap;
import java.util.concurrent.TimeUnit;
import java.util.stream.Collectors;

/** Makes 60 calls over one channel and prints how many each server has answered, most first. */
public class GrpcClient {
  static class Bytes implements MethodDescriptor.Marshaller<byte[]> {
    public InputStream stream(byte[] value) {
      return new ByteArrayInputStream(value);
    }

    public byte[] parse(InputStream stream) {
      try {
        return stream.readAllBytes();
      } catch (java.io.IOException e) {
        throw new java.io.UncheckedIOException(e);
      }
    }
  }

  public static void main(String[] args) {
    var channel = ManagedChannelBuilder.forTarget(args[0]).usePlaintext().build();
    var method = MethodDescriptor.<byte[], byte[]>newBuilder(new Bytes(), new Bytes())
        .setType(MethodDescriptor.MethodType.UNARY).setFullMethodName("mizzen.test.echo.v1.Echo/Call").build();
    Map<String, Integer> answered = new TreeMap<>();
    for (int i = 0; i < 60; i++) {
      byte[] reply = ClientCalls.blockingUnaryCall(channel, method, CallOptions.DEFAULT.withDeadlineAfter(10, TimeUnit.SECONDS), new byte[0]);
      answered.merge(new String(reply, 2, reply[1]), 1, Integer::sum); // the first field, a string: key, length, text
    }
    System.out.println(answered.values().stream().sorted(Collections.reverseOrder()).map(String::valueOf).collect(Collectors.joining(" ")));
    channel.shutdownNow();
  }
}
