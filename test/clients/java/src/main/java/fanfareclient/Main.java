package fanfareclient;

import io.grpc.Grpc;
import io.grpc.ManagedChannel;
import io.grpc.StatusRuntimeException;
import io.grpc.TlsChannelCredentials;
import java.io.File;
import java.io.IOException;

/**
 * A small Fanfare client in Java: {@code publish} and {@code subscribe} over mutual TLS. Started by
 * test/integration/foreign-clients.test.ts, which reads its standard output. The package fanfare.v1 is generated from
 * proto/ when the program is built.
 */
public final class Main {
  /** A call that takes longer has hung: it then ends with DEADLINE_EXCEEDED. */
  static final int CALL_TIMEOUT_S = 60;

  public static void main(String[] args) throws Exception {
    int exitCode = 0;
    try {
      run(args);
    } catch (StatusRuntimeException | ClientException error) {
      System.err.println("fanfareclient: " + error.getMessage());
      exitCode = 1;
    }
    System.exit(exitCode);
  }

  private static void run(String[] args) throws Exception {
    String command = args.length == 0 ? "" : args[0];
    Options options = Options.parse(args, 1);
    ManagedChannel channel = connect(options);
    try {
      switch (command) {
        case "publish" -> new Publish(channel, options).run();
        case "subscribe" -> new Subscribe(channel, options).run();
        default -> throw new ClientException("unknown command '" + command + "': say publish or subscribe");
      }
    } finally {
      channel.shutdownNow();
    }
  }

  private static ManagedChannel connect(Options options) throws IOException {
    var credentials = TlsChannelCredentials.newBuilder()
        .trustManager(new File(options.text("ca")))
        .keyManager(new File(options.text("cert")), new File(options.text("key")))
        .build();
    return Grpc.newChannelBuilder(options.text("address"), credentials).build();
  }

  private Main() {}
}
