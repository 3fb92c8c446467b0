// A publisher: one request at a time by the unary Publish, sent again until it is answered, so that what it publishes under a
// key has an order that everybody must see. Its messages are numbered; a payload is "{publisher}/{number}", and a space before
// what fills it up.
package main

import (
	"bytes"
	"context"
	"fmt"
	"math/rand/v2"
	"time"

	fanfarev1 "fanfareclient/gen/fanfare/v1"
)

const (
	callTimeout  = 5 * time.Second
	batchMost    = 10
	keylessPart  = 0.3
	largePart    = 0.005
	largeBytes   = 64 << 10
	retryAtLeast = 100 * time.Millisecond
	retryMore    = 300 * time.Millisecond
)

func publish(ctx context.Context, c command, at *brokers, log *journal) {
	defer log.write(event{Event: "stopped", P: c.Name})
	defer at.leave()
	chance := rand.New(rand.NewPCG(c.Seed, 1))
	pause := time.Duration(float64(time.Second) / c.PerSecond)
	for number := 0; ; {
		request := &fanfarev1.PublishRequest{Topic: c.Topic}
		sent := event{Event: "sent", P: c.Name, Topic: c.Topic}
		for range 1 + chance.IntN(batchMost) {
			message := &fanfarev1.Message{Data: payload(c, number, chance)}
			if chance.Float64() >= keylessPart {
				message.OrderingKey = fmt.Sprintf("%s-k%d", c.Name, chance.IntN(c.Keys))
			}
			request.Messages = append(request.Messages, message)
			sent.M = append(sent.M, []any{number, message.OrderingKey})
			number++
		}
		log.write(sent)
		ids := answer(ctx, c, request, at, log, chance)
		if ids == nil {
			return
		}
		answered := event{Event: "answered", P: c.Name}
		for i, id := range ids {
			answered.M = append(answered.M, []any{sent.M[i][0], id})
		}
		log.write(answered)
		if !rest(ctx, time.Duration(float64(pause)*2*chance.Float64())) {
			return
		}
	}
}

// answer sends a request until it is answered. Once the publisher is stopped it does not send it again: nil.
func answer(
	ctx context.Context, c command, request *fanfarev1.PublishRequest, at *brokers, log *journal, chance *rand.Rand,
) []string {
	for {
		response, err := call(at, request)
		if err == nil && len(response.MessageIds) == len(request.Messages) {
			return response.MessageIds
		}
		if err == nil {
			err = fmt.Errorf("%d ids for %d messages", len(response.MessageIds), len(request.Messages))
		}
		log.failed(event{P: c.Name}, "Publish", err)
		at.leave()
		if !rest(ctx, retryAtLeast+time.Duration(chance.Float64()*float64(retryMore))) {
			return nil
		}
	}
}

func call(at *brokers, request *fanfarev1.PublishRequest) (*fanfarev1.PublishResponse, error) {
	connection, err := at.connection()
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(context.Background(), callTimeout)
	defer cancel()
	return fanfarev1.NewPublisherClient(connection).Publish(ctx, request)
}

func payload(c command, number int, chance *rand.Rand) []byte {
	size := chance.IntN(c.Bytes + 1)
	if chance.Float64() < largePart {
		size = largeBytes
	}
	return append(fmt.Appendf(nil, "%s/%d ", c.Name, number), bytes.Repeat([]byte{'.'}, size)...)
}
