package fanfareclient;

/** What went wrong, for people. Everything that is not a gRPC status. */
final class ClientException extends RuntimeException {
  private static final long serialVersionUID = 1;

  ClientException(String message) {
    super(message);
  }
}
