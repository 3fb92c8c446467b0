// Prints messages until there were `count` different ones, then acknowledges the last by a call that confirms it and
// ends the stream. Odd messages are acknowledged by id, even ones by range, so that both ways are tried.
package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"os"

	"google.golang.org/grpc"

	fanfarev1 "fanfareclient/gen/fanfare/v1"
)

// Small, so that the broker has to wait for acknowledgements.
const creditMessages = 64

func subscribe(ctx context.Context, connection *grpc.ClientConn, o options) error {
	client := fanfarev1.NewSubscriberClient(connection)
	stream, err := client.Subscribe(ctx)
	if err != nil {
		return err
	}
	opening := &fanfarev1.SubscribeRequest{
		Subscription:           o.subscription,
		ClientId:               "go",
		MaxOutstandingMessages: creditMessages,
	}
	if err := stream.Send(opening); err != nil && !errors.Is(err, io.EOF) {
		return err // After io.EOF Recv has the reason.
	}

	out := bufio.NewWriter(os.Stdout)
	seen := make(map[string]bool, o.count)
	received := 0
	for len(seen) < o.count {
		response, err := stream.Recv()
		if err != nil {
			return fmt.Errorf("after %d messages: %w", len(seen), err)
		}
		var ackIDs []string
		var ackRanges []*fanfarev1.MessageRange
		for _, message := range response.ReceivedMessages {
			if len(seen) == o.count {
				break // Not asked for: it stays unsettled and goes to the next consumer.
			}
			if id := message.Message.MessageId; !seen[id] {
				seen[id] = true
				out.Write(message.Message.Data)
				out.WriteByte('\n')
			}
			received++
			if received%2 == 1 {
				ackIDs = append(ackIDs, message.AckId)
				continue
			}
			place, err := rangeOf(message.AckId)
			if err != nil {
				return err
			}
			ackRanges = append(ackRanges, place)
		}
		if err := out.Flush(); err != nil {
			return err
		}
		if len(seen) < o.count {
			err = stream.Send(&fanfarev1.SubscribeRequest{AckIds: ackIDs, AckRanges: ackRanges})
			if err != nil && !errors.Is(err, io.EOF) {
				return err
			}
			continue
		}
		_, err = client.Acknowledge(ctx, &fanfarev1.AcknowledgeRequest{
			Subscription: o.subscription, AckIds: ackIDs, AckRanges: ackRanges,
		})
		if err != nil {
			return err
		}
	}

	if err := stream.CloseSend(); err != nil {
		return err
	}
	for {
		if _, err := stream.Recv(); errors.Is(err, io.EOF) {
			return nil
		} else if err != nil {
			return err
		}
	}
}

// rangeOf reads an ack id, "{log_epoch}.{partition}-{offset}" and on a redelivery "-{delivery_attempt}", as the range
// of that one message.
func rangeOf(ackID string) (*fanfarev1.MessageRange, error) {
	var place fanfarev1.MessageRange
	if _, err := fmt.Sscanf(ackID, "%d.%d-%d", &place.LogEpoch, &place.Partition, &place.FirstOffset); err != nil {
		return nil, fmt.Errorf("ack id %q: %w", ackID, err)
	}
	place.LastOffset = place.FirstOffset
	return &place, nil
}
