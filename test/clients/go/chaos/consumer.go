// Consumers: streams that end and begin again, and Pull calls. Both handle messages in the order in which they get them, which is
// writing them into the journal, and only then acknowledge.
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"strconv"
	"strings"
	"sync"
	"time"

	"google.golang.org/protobuf/types/known/durationpb"

	fanfarev1 "fanfareclient/gen/fanfare/v1"
)

const (
	creditMessages = 200
	// So long a stream lives at least, and at most.
	streamAtLeast = 5 * time.Second
	streamMore    = 40 * time.Second
	// The part of a stream's acknowledgements that are made by a call.
	confirmedPart = 0.2
	pullMessages  = 50
	pullWait      = 2 * time.Second
)

func consume(ctx context.Context, c command, at *brokers, log *journal) {
	defer log.write(event{Event: "stopped", C: c.Name})
	defer at.leave()
	chance := rand.New(rand.NewPCG(c.Seed, 2))
	for {
		err := stream(ctx, c, at, log, chance)
		if ctx.Err() != nil {
			return
		}
		if err != nil {
			log.failed(event{C: c.Name}, "Subscribe", err)
			at.leave()
		} else {
			log.write(event{Event: "left", C: c.Name})
		}
		if !rest(ctx, retryAtLeast+time.Duration(chance.Float64()*float64(retryMore))) {
			return
		}
	}
}

// stream is one, until it breaks, its time is over (nil), or the consumer is stopped.
func stream(ctx context.Context, c command, at *brokers, log *journal, chance *rand.Rand) error {
	connection, err := at.connection()
	if err != nil {
		return err
	}
	client := fanfarev1.NewSubscriberClient(connection)
	life := streamAtLeast + time.Duration(chance.Float64()*float64(streamMore))
	lives, end := context.WithTimeout(ctx, life)
	defer end()
	// Half of them say that they go, the others just go. The former are cut off, too, if that does not end them.
	says := chance.Float64() < 0.5
	calls, cut := context.WithCancel(context.Background())
	defer cut()
	context.AfterFunc(lives, func() {
		if !says {
			cut()
		}
	})
	opened, err := client.Subscribe(calls)
	if err != nil {
		return err
	}
	var sending sync.Mutex // grpc-go wants one at a time.
	if says {
		context.AfterFunc(lives, func() {
			sending.Lock()
			defer sending.Unlock()
			opened.CloseSend()
			time.AfterFunc(callTimeout, cut)
		})
	}
	send := func(request *fanfarev1.SubscribeRequest) error {
		sending.Lock()
		defer sending.Unlock()
		if lives.Err() != nil {
			return lives.Err()
		}
		return opened.Send(request)
	}
	opening := &fanfarev1.SubscribeRequest{Subscription: c.Subscription, MaxOutstandingMessages: creditMessages}
	send(opening) // If that fails, Recv has the reason.
	for {
		response, err := opened.Recv()
		if lives.Err() != nil {
			return nil // What has come since is not handled: it goes to others.
		}
		if errors.Is(err, io.EOF) {
			return errors.New("the broker ended a stream that was not at its end")
		}
		if err != nil {
			return err
		}
		if len(response.ReceivedMessages) == 0 {
			continue
		}
		handle(c, response.ReceivedMessages, log)
		acks, nacks := split(c, response.ReceivedMessages, chance)
		request := &fanfarev1.SubscribeRequest{ModifyDeadlineAckIds: nacks}
		request.ModifyDeadlineSeconds = make([]int32, len(nacks))
		confirms := chance.Float64() < confirmedPart
		if !confirms {
			request.AckIds = acks
		}
		if len(request.AckIds)+len(nacks) > 0 && send(request) == nil {
			if len(request.AckIds) > 0 {
				log.write(event{Event: "told", S: c.Subscription, C: c.Name, IDs: places(acks)})
			}
			if len(nacks) > 0 {
				log.write(event{Event: "nacked", S: c.Subscription, C: c.Name, IDs: places(nacks)})
			}
		}
		if confirms {
			confirm(c, client, acks, log)
		}
	}
}

func pull(ctx context.Context, c command, at *brokers, log *journal) {
	defer log.write(event{Event: "stopped", C: c.Name})
	defer at.leave()
	chance := rand.New(rand.NewPCG(c.Seed, 3))
	for ctx.Err() == nil {
		err := pullOnce(c, at, log)
		if err == nil {
			continue
		}
		log.failed(event{C: c.Name}, "Pull", err)
		at.leave()
		if !rest(ctx, retryAtLeast+time.Duration(chance.Float64()*float64(retryMore))) {
			return
		}
	}
}

func pullOnce(c command, at *brokers, log *journal) error {
	connection, err := at.connection()
	if err != nil {
		return err
	}
	client := fanfarev1.NewSubscriberClient(connection)
	ctx, cancel := context.WithTimeout(context.Background(), pullWait+callTimeout)
	defer cancel()
	response, err := client.Pull(ctx, &fanfarev1.PullRequest{
		Subscription: c.Subscription, MaxMessages: pullMessages, MaxWait: durationpb.New(pullWait),
	})
	if err != nil || len(response.ReceivedMessages) == 0 {
		return err
	}
	handle(c, response.ReceivedMessages, log)
	acks, _ := split(command{}, response.ReceivedMessages, nil)
	confirm(c, client, acks, log)
	return nil
}

func handle(c command, messages []*fanfarev1.ReceivedMessage, log *journal) {
	handled := event{Event: "handled", S: c.Subscription, C: c.Name}
	for _, each := range messages {
		label, _, _ := strings.Cut(string(each.Message.Data[:min(len(each.Message.Data), 200)]), " ")
		publisher, digits, _ := strings.Cut(label, "/")
		number, err := strconv.Atoi(digits)
		if err != nil {
			number = -1 // Nobody has published that: the judge will say so.
		}
		attempt := max(1, each.DeliveryAttempt)
		handled.M = append(handled.M, []any{publisher, number, each.Message.MessageId, attempt})
	}
	log.write(handled)
}

// split chooses what to acknowledge, and what to give back.
func split(c command, messages []*fanfarev1.ReceivedMessage, chance *rand.Rand) (acks, nacks []string) {
	for _, each := range messages {
		if c.Nacks > 0 && chance.Float64() < c.Nacks {
			nacks = append(nacks, each.AckId)
		} else {
			acks = append(acks, each.AckId)
		}
	}
	return acks, nacks
}

// confirm acknowledges by a call. What it fails for is left to be delivered again.
func confirm(c command, client fanfarev1.SubscriberClient, acks []string, log *journal) {
	if len(acks) == 0 {
		return
	}
	ctx, cancel := context.WithTimeout(context.Background(), callTimeout)
	defer cancel()
	request := &fanfarev1.AcknowledgeRequest{Subscription: c.Subscription, AckIds: acks}
	if _, err := client.Acknowledge(ctx, request); err != nil {
		log.failed(event{C: c.Name}, "Acknowledge", err)
		return
	}
	log.write(event{Event: "confirmed", S: c.Subscription, C: c.Name, IDs: places(acks)})
}

// places are the message ids within ack ids: a redelivery's ends in its attempt.
func places(ackIDs []string) []any {
	ids := make([]any, len(ackIDs))
	for i, id := range ackIDs {
		parts := strings.SplitN(id, "-", 3)
		ids[i] = fmt.Sprintf("%s-%s", parts[0], parts[1])
	}
	return ids
}
