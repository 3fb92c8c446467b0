// Publishes the first half of the messages with Publish, the second with PublishStream. Ordering keys keep their order
// over the seam because the stream begins only after the last Publish was answered.
package main

import (
	"context"
	"errors"
	"fmt"
	"io"

	"google.golang.org/grpc"

	fanfarev1 "fanfareclient/gen/fanfare/v1"
)

const (
	batchMessages = 50
	// Batches that may be without an answer on the stream.
	windowBatches = 8
)

func publish(ctx context.Context, connection *grpc.ClientConn, o options) error {
	client := fanfarev1.NewPublisherClient(connection)
	ids := make(map[string]bool, o.count)
	half := o.count / 2
	if err := publishUnary(ctx, client, o, 0, half, ids); err != nil {
		return err
	}
	if err := publishStream(ctx, client, o, half, o.count, ids); err != nil {
		return err
	}
	fmt.Println("OK", o.count, len(ids))
	return nil
}

func publishUnary(
	ctx context.Context, client fanfarev1.PublisherClient, o options, from, to int, ids map[string]bool,
) error {
	for ; from < to; from += batchMessages {
		messages := batch(o, from, min(from+batchMessages, to))
		response, err := client.Publish(ctx, &fanfarev1.PublishRequest{Topic: o.topic, Messages: messages})
		if err != nil {
			return err
		}
		if len(response.MessageIds) != len(messages) {
			return fmt.Errorf("%d ids for %d messages", len(response.MessageIds), len(messages))
		}
		for _, id := range response.MessageIds {
			ids[id] = true
		}
	}
	return nil
}

func publishStream(
	ctx context.Context, client fanfarev1.PublisherClient, o options, from, to int, ids map[string]bool,
) error {
	// Ends the stream, and with it the sender, when the answers end early.
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	stream, err := client.PublishStream(ctx)
	if err != nil {
		return err
	}

	window := make(chan struct{}, windowBatches)
	go func() {
		topic := o.topic
		for first := from; first < to; first += batchMessages {
			select {
			case window <- struct{}{}:
			case <-ctx.Done():
				return
			}
			request := &fanfarev1.PublishStreamRequest{
				Topic:     topic,
				Messages:  batch(o, first, min(first+batchMessages, to)),
				RequestId: uint64(first),
			}
			if stream.Send(request) != nil {
				return // Recv has the reason.
			}
			topic = "" // The same as before.
		}
		stream.CloseSend()
	}()

	for missing := to - from; ; {
		response, err := stream.Recv()
		if errors.Is(err, io.EOF) {
			if missing != 0 {
				return fmt.Errorf("the publish stream ended with %d messages unanswered", missing)
			}
			return nil
		}
		if err != nil {
			return err
		}
		if response.Error != nil {
			return fmt.Errorf("batch %d refused with code %d: %s",
				response.RequestId, response.Error.Code, response.Error.Message)
		}
		for _, run := range response.Runs {
			for i := range uint64(run.Count) {
				ids[fmt.Sprintf("%d.%d-%d", response.LogEpoch, run.Partition, run.FirstOffset+i)] = true
			}
			missing -= int(run.Count)
		}
		<-window
	}
}

func batch(o options, from, to int) []*fanfarev1.Message {
	messages := make([]*fanfarev1.Message, 0, to-from)
	for i := from; i < to; i++ {
		message := &fanfarev1.Message{Data: fmt.Appendf(nil, "%s-%d", o.prefix, i)}
		if o.keyMod > 0 {
			message.OrderingKey = fmt.Sprintf("k%d", i%o.keyMod)
		}
		messages = append(messages, message)
	}
	return messages
}
