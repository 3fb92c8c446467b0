package fanfareclient;

import com.google.protobuf.ByteString;
import dev.fanfare.v1.Message;
import dev.fanfare.v1.PublishRequest;
import dev.fanfare.v1.PublishResponse;
import dev.fanfare.v1.PublishStreamRequest;
import dev.fanfare.v1.PublishStreamResponse;
import dev.fanfare.v1.PublishedRun;
import dev.fanfare.v1.PublisherGrpc;
import io.grpc.Channel;
import io.grpc.stub.StreamObserver;
import java.util.ArrayList;
import java.util.HashSet;
import java.util.List;
import java.util.Set;
import java.util.concurrent.CompletableFuture;
import java.util.concurrent.Semaphore;
import java.util.concurrent.TimeUnit;

/**
 * Publishes the first half of the messages with Publish, the second with PublishStream. Ordering keys keep their order
 * over the seam because the stream begins only after the last Publish was answered.
 */
final class Publish {
  private static final int BATCH_MESSAGES = 50;
  /** Batches that may be without an answer on the stream. */
  private static final int WINDOW_BATCHES = 8;

  private final Channel channel;
  private final String topic;
  private final String prefix;
  private final int count;
  private final int keyMod;
  private final Set<String> ids = new HashSet<>();

  Publish(Channel channel, Options options) {
    this.channel = channel;
    topic = options.text("topic");
    prefix = options.text("prefix");
    count = options.number("count");
    keyMod = options.number("key-mod", 0);
  }

  void run() throws Exception {
    int half = count / 2;
    publishUnary(0, half);
    publishStream(half, count);
    System.out.println("OK " + count + " " + ids.size());
  }

  private void publishUnary(int from, int to) {
    var publisher = PublisherGrpc.newBlockingStub(channel);
    for (int first = from; first < to; first += BATCH_MESSAGES) {
      List<Message> messages = batch(first, Math.min(first + BATCH_MESSAGES, to));
      PublishRequest request = PublishRequest.newBuilder().setTopic(topic).addAllMessages(messages).build();
      PublishResponse response =
          publisher.withDeadlineAfter(Main.CALL_TIMEOUT_S, TimeUnit.SECONDS).publish(request);
      if (response.getMessageIdsCount() != messages.size()) {
        throw new ClientException(response.getMessageIdsCount() + " ids for " + messages.size() + " messages");
      }
      ids.addAll(response.getMessageIdsList());
    }
  }

  private void publishStream(int from, int to) throws Exception {
    Answers answers = new Answers();
    StreamObserver<PublishStreamRequest> requests = PublisherGrpc.newStub(channel)
        .withDeadlineAfter(Main.CALL_TIMEOUT_S, TimeUnit.SECONDS)
        .publishStream(answers);
    for (int first = from; first < to; first += BATCH_MESSAGES) {
      answers.window.acquire();
      if (answers.ended.isDone()) {
        break; // With an error, which get() below reports.
      }
      requests.onNext(PublishStreamRequest.newBuilder()
          .setTopic(first == from ? topic : "") // Empty: the same as before.
          .addAllMessages(batch(first, Math.min(first + BATCH_MESSAGES, to)))
          .setRequestId(first)
          .build());
    }
    if (!answers.ended.isDone()) {
      requests.onCompleted();
    }
    Subscribe.resultOf(answers.ended);
    if (answers.messages != to - from) {
      throw new ClientException(
          "the publish stream ended with answers for " + answers.messages + " of " + (to - from) + " messages");
    }
  }

  private List<Message> batch(int from, int to) {
    List<Message> messages = new ArrayList<>(to - from);
    for (int i = from; i < to; i++) {
      messages.add(Message.newBuilder()
          .setData(ByteString.copyFromUtf8(prefix + "-" + i))
          .setOrderingKey(keyMod > 0 ? "k" + i % keyMod : "")
          .build());
    }
    return messages;
  }

  /** The answering half of the stream. gRPC calls it from one thread at a time; `ended` publishes what it wrote. */
  private final class Answers implements StreamObserver<PublishStreamResponse> {
    final Semaphore window = new Semaphore(WINDOW_BATCHES);
    final CompletableFuture<Void> ended = new CompletableFuture<>();
    int messages;

    @Override
    public void onNext(PublishStreamResponse response) {
      if (response.hasError()) {
        onError(new ClientException("batch " + response.getRequestId() + " refused with code "
            + response.getError().getCode() + ": " + response.getError().getMessage()));
        return;
      }
      for (PublishedRun run : response.getRunsList()) {
        for (int i = 0; i < run.getCount(); i++) {
          ids.add(response.getLogEpoch() + "." + run.getPartition() + "-" + (run.getFirstOffset() + i));
        }
        messages += run.getCount();
      }
      window.release();
    }

    @Override
    public void onError(Throwable error) {
      ended.completeExceptionally(error);
      window.release(); // The sender looks at `ended` next.
    }

    @Override
    public void onCompleted() {
      ended.complete(null);
      window.release();
    }
  }
}
