// Caller makes gRPC calls through grpc-go, which is what Flyte's engine calls connectors with.
//
// Its arguments are the addresses of hosts, which it takes turns with. It reads orders from its standard input, one JSON
// object a line, carries them out side by side, and writes what became of each to its standard output.
package main

import (
	"bufio"
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"io"
	"os"
	"sync"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/keepalive"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/resolver"
	"google.golang.org/grpc/resolver/manual"
	"google.golang.org/grpc/status"
)

// Order is a call to make, or one to cancel, or other hosts to take turns with from now on.
type Order struct {
	Hosts    []string `json:"hosts"`
	ID       int      `json:"id"`
	Cancel   bool     `json:"cancel"`   // the call of this ID, instead of making one
	Method   string   `json:"method"`   // in full, with its slash
	Unary    bool     `json:"unary"`    // one request, one answer
	Requests [][]byte `json:"requests"` // as they go on the wire
	Timeout  float64  `json:"timeout"`  // seconds; 0 for no deadline
	Read     int      `json:"read"`     // answers to read before the call is cancelled; 0 for all
	Times    int      `json:"times"`    // how often to make the call; what became of all is counted
	AtOnce   int      `json:"at_once"`  // how many of those at a time; 0 for one
}

// Outcome is what became of an order.
type Outcome struct {
	ID       int                 `json:"id"`
	Code     string              `json:"code"`
	Message  string              `json:"message"`
	Answers  [][]byte            `json:"answers"`
	Trailers map[string][]string `json:"trailers"`
	Counts   map[string]int      `json:"counts"` // calls by code and answer's size, where there were several
}

// Bytes pass messages on as they are.
type Bytes struct{}

func (Bytes) Marshal(message any) ([]byte, error) { return *message.(*[]byte), nil }

func (Bytes) Unmarshal(raw []byte, message any) error {
	*message.(*[]byte) = append([]byte{}, raw...)
	return nil
}

func (Bytes) Name() string { return "proto" }

func main() {
	ping := flag.Duration("ping", 0, "how often to ping while calls are under way")
	flag.Parse()
	hosts := manual.NewBuilderWithScheme("hosts")
	hosts.InitialState(state(flag.Args()))
	connection, err := connect(hosts, *ping)
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	defer connection.Close()
	carryOut(connection, hosts, os.Stdin, os.Stdout)
}

func state(addresses []string) resolver.State {
	state := resolver.State{}
	for _, address := range addresses {
		state.Addresses = append(state.Addresses, resolver.Address{Addr: address})
	}
	return state
}

func connect(hosts *manual.Resolver, ping time.Duration) (*grpc.ClientConn, error) {
	options := []grpc.DialOption{
		grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithResolvers(hosts),
		grpc.WithDefaultServiceConfig(`{"loadBalancingConfig": [{"round_robin": {}}]}`),
		grpc.WithDefaultCallOptions(grpc.ForceCodec(Bytes{})),
	}
	if ping > 0 {
		options = append(options, grpc.WithKeepaliveParams(keepalive.ClientParameters{Time: ping, Timeout: 10 * time.Second}))
	}
	return grpc.Dial("hosts:///", options...)
}

func carryOut(connection *grpc.ClientConn, hosts *manual.Resolver, orders io.Reader, outcomes io.Writer) {
	var underWay sync.WaitGroup
	var writing sync.Mutex
	cancels := map[int]context.CancelFunc{}
	out := json.NewEncoder(outcomes)
	in := json.NewDecoder(bufio.NewReader(orders))
	for {
		var order Order
		if err := in.Decode(&order); err != nil {
			break
		}
		if order.Hosts != nil {
			hosts.UpdateState(state(order.Hosts))
			continue
		}
		if order.Cancel {
			cancels[order.ID]()
			continue
		}
		within, cancel := context.WithCancel(context.Background())
		cancels[order.ID] = cancel
		underWay.Add(1)
		go func() {
			defer underWay.Done()
			outcome := made(within, connection, order)
			writing.Lock()
			defer writing.Unlock()
			if err := out.Encode(outcome); err != nil {
				fmt.Fprintln(os.Stderr, err)
			}
		}()
	}
	underWay.Wait()
}

func made(within context.Context, connection *grpc.ClientConn, order Order) Outcome {
	if order.Times == 0 {
		return call(within, connection, order)
	}
	outcomes := make(chan Outcome)
	orders := make(chan struct{}, order.Times)
	for i := 0; i < order.Times; i++ {
		orders <- struct{}{}
	}
	close(orders)
	for i := 0; i == 0 || i < order.AtOnce; i++ {
		go func() {
			for range orders {
				outcomes <- call(within, connection, order)
			}
		}()
	}
	all := Outcome{ID: order.ID, Counts: map[string]int{}}
	for i := 0; i < order.Times; i++ {
		one := <-outcomes
		size := 0
		for _, answer := range one.Answers {
			size += len(answer)
		}
		all.Counts[fmt.Sprintf("%s %d", one.Code, size)]++
		all.Code, all.Message = one.Code, one.Message
	}
	return all
}

func call(within context.Context, connection *grpc.ClientConn, order Order) Outcome {
	within, cancel := context.WithCancel(within)
	defer cancel()
	if order.Timeout > 0 {
		within, cancel = context.WithTimeout(within, time.Duration(order.Timeout*float64(time.Second)))
		defer cancel()
	}
	var trailers metadata.MD
	var answers [][]byte
	var err error
	if order.Unary {
		var answer []byte
		err = connection.Invoke(within, order.Method, &order.Requests[0], &answer, grpc.Trailer(&trailers))
		if err == nil {
			answers = [][]byte{answer}
		}
	} else {
		answers, err = stream(within, cancel, connection, order, &trailers)
	}
	said := status.Convert(err)
	return Outcome{ID: order.ID, Code: said.Code().String(), Message: said.Message(), Answers: answers, Trailers: trailers}
}

func stream(
	within context.Context, cancel context.CancelFunc, connection *grpc.ClientConn, order Order, trailers *metadata.MD,
) ([][]byte, error) {
	what := &grpc.StreamDesc{ServerStreams: true, ClientStreams: true}
	calls, err := connection.NewStream(within, what, order.Method)
	if err != nil {
		return nil, err
	}
	for i := range order.Requests {
		if err := calls.SendMsg(&order.Requests[i]); err != nil {
			break // the answer says why
		}
	}
	if err := calls.CloseSend(); err != nil {
		return nil, err
	}
	var answers [][]byte
	for {
		var answer []byte
		if err := calls.RecvMsg(&answer); err == io.EOF {
			*trailers = calls.Trailer()
			return answers, nil
		} else if err != nil {
			*trailers = calls.Trailer()
			return answers, err
		}
		answers = append(answers, answer)
		if len(answers) == order.Read {
			cancel()
			return answers, nil
		}
	}
}
