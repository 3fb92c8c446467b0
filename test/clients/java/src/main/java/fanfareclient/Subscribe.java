package fanfareclient;

import dev.fanfare.v1.AcknowledgeRequest;
import dev.fanfare.v1.MessageRange;
import dev.fanfare.v1.ReceivedMessage;
import dev.fanfare.v1.SubscribeRequest;
import dev.fanfare.v1.SubscribeResponse;
import dev.fanfare.v1.SubscriberGrpc;
import io.grpc.Channel;
import io.grpc.stub.StreamObserver;
import java.io.IOException;
import java.io.PrintStream;
import java.util.ArrayList;
import java.util.HashSet;
import java.util.List;
import java.util.Optional;
import java.util.Set;
import java.util.concurrent.BlockingQueue;
import java.util.concurrent.CompletableFuture;
import java.util.concurrent.ExecutionException;
import java.util.concurrent.LinkedBlockingQueue;
import java.util.concurrent.TimeUnit;
import java.util.regex.Matcher;
import java.util.regex.Pattern;

/**
 * Prints messages until there were {@code count} different ones, then acknowledges the last by a call that confirms it
 * and ends the stream. Odd messages are acknowledged by id, even ones by range, so that both ways are tried.
 */
final class Subscribe {
  /** Small, so that the broker has to wait for acknowledgements. */
  private static final int CREDIT_MESSAGES = 64;
  /** "{log_epoch}.{partition}-{offset}" and on a redelivery "-{delivery_attempt}". */
  private static final Pattern ACK_ID = Pattern.compile("(\\d+)\\.(\\d+)-(\\d+)(-\\d+)?");

  private final Channel channel;
  private final String subscription;
  private final int count;
  private final PrintStream out = new PrintStream(System.out, false);
  private final Set<String> seen = new HashSet<>();
  private int received;

  Subscribe(Channel channel, Options options) {
    this.channel = channel;
    subscription = options.text("subscription");
    count = options.number("count");
  }

  void run() throws Exception {
    Responses responses = new Responses();
    StreamObserver<SubscribeRequest> requests = SubscriberGrpc.newStub(channel)
        .withDeadlineAfter(Main.CALL_TIMEOUT_S, TimeUnit.SECONDS)
        .subscribe(responses);
    requests.onNext(SubscribeRequest.newBuilder()
        .setSubscription(subscription)
        .setClientId("java")
        .setMaxOutstandingMessages(CREDIT_MESSAGES)
        .build());

    while (seen.size() < count) {
      Settled settled = take(responses.next());
      out.flush();
      if (seen.size() < count) {
        requests.onNext(SubscribeRequest.newBuilder()
            .addAllAckIds(settled.ackIds)
            .addAllAckRanges(settled.ackRanges)
            .build());
      } else {
        acknowledge(settled);
      }
    }
    requests.onCompleted();
    resultOf(responses.ended);
  }

  /** Prints a response's new messages. What comes after the last one is left out: it goes to the next consumer. */
  private Settled take(SubscribeResponse response) throws IOException {
    Settled settled = new Settled(new ArrayList<>(), new ArrayList<>());
    for (ReceivedMessage message : response.getReceivedMessagesList()) {
      if (seen.size() == count) {
        break;
      }
      if (seen.add(message.getMessage().getMessageId())) {
        message.getMessage().getData().writeTo(out);
        out.write('\n');
      }
      received++;
      if (received % 2 == 1) {
        settled.ackIds.add(message.getAckId());
      } else {
        settled.ackRanges.add(rangeOf(message.getAckId()));
      }
    }
    return settled;
  }

  private void acknowledge(Settled settled) {
    SubscriberGrpc.newBlockingStub(channel)
        .withDeadlineAfter(Main.CALL_TIMEOUT_S, TimeUnit.SECONDS)
        .acknowledge(AcknowledgeRequest.newBuilder()
            .setSubscription(subscription)
            .addAllAckIds(settled.ackIds)
            .addAllAckRanges(settled.ackRanges)
            .build());
  }

  private static MessageRange rangeOf(String ackId) {
    Matcher numbers = ACK_ID.matcher(ackId);
    if (!numbers.matches()) {
      throw new ClientException("unexpected ack id '" + ackId + "'");
    }
    long offset = Long.parseUnsignedLong(numbers.group(3));
    return MessageRange.newBuilder()
        .setLogEpoch(Long.parseUnsignedLong(numbers.group(1)))
        .setPartition(Integer.parseUnsignedInt(numbers.group(2)))
        .setFirstOffset(offset)
        .setLastOffset(offset)
        .build();
  }

  /** Waits, and throws what the future failed with as it is. */
  static void resultOf(CompletableFuture<Void> future) throws InterruptedException {
    try {
      future.get();
    } catch (ExecutionException error) {
      if (error.getCause() instanceof RuntimeException cause) {
        throw cause;
      }
      throw new IllegalStateException(error.getCause());
    }
  }

  private record Settled(List<String> ackIds, List<MessageRange> ackRanges) {}

  /** The receiving half of the stream. Credit bounds the queue; its last element, an empty one, says "ended". */
  private static final class Responses implements StreamObserver<SubscribeResponse> {
    final CompletableFuture<Void> ended = new CompletableFuture<>();
    private final BlockingQueue<Optional<SubscribeResponse>> queue = new LinkedBlockingQueue<>();

    SubscribeResponse next() throws InterruptedException {
      Optional<SubscribeResponse> response = queue.take();
      if (response.isEmpty()) {
        resultOf(ended);
        throw new ClientException("the stream ended early");
      }
      return response.get();
    }

    @Override
    public void onNext(SubscribeResponse response) {
      queue.add(Optional.of(response));
    }

    @Override
    public void onError(Throwable error) {
      ended.completeExceptionally(error);
      queue.add(Optional.empty());
    }

    @Override
    public void onCompleted() {
      ended.complete(null);
      queue.add(Optional.empty());
    }
  }
}
