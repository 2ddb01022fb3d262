import org.apache.hc.client5.http.classic.methods.HttpGet;
import org.apache.hc.client5.http.impl.classic.HttpClients;
import org.apache.hc.core5.http.io.entity.EntityUtils;

/** Sends two requests with Apache's HttpClient as it is, which asks for an upgrade to TLS, and prints the codes and the last answer. */
public class HttpClient {
  public static void main(String[] args) throws Exception {
    try (var client = HttpClients.createDefault()) {
      for (int i = 0; i < 2; i++) {
        String answer = client.execute(new HttpGet(args[0]), r -> r.getCode() + " " + EntityUtils.toString(r.getEntity()));
        System.out.print(answer);
      }
    }
  }
}
