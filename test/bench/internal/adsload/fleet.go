package adsload

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"

	"github.com/mizzen-mesh/mizzen/internal/node"
	"github.com/mizzen-mesh/mizzen/xds/envoy"
)

// Uses is what one client's application calls.
type Uses struct {
	// HTTP and TCP are destination addresses. One of HTTP is the name of a route configuration, one of TCP that of a cluster.
	HTTP, TCP []string
}

// Options of a Fleet.
type Options struct {
	// Address of the control plane, host:port.
	Address string
	// Nodes are the clients.
	Nodes []node.Node
	// Uses gives what the application of client i calls; nil for nothing.
	Uses func(i int) Uses
	// Sources are addresses of this machine that the clients connect from, in turn; none for any. A control
	// plane may bound the streams of one address.
	Sources []netip.Addr
	// NACKEvery makes each client refuse every n-th response once it is in sync; 0 for none.
	NACKEvery int
}

// Fleet is many clients of one control plane.
type Fleet struct {
	opt     Options
	catalog *catalog
	clients []*client

	in, out, responses  atomic.Int64
	messages, resources [kinds]atomic.Int64
	removed             [kinds]atomic.Int64
	watch               atomic.Pointer[Watch]

	mu      sync.Mutex
	begun   time.Time
	waiting int           // clients that are not in sync
	done    chan struct{} // closed when none is
	failed  error
	cancel  context.CancelFunc
	running sync.WaitGroup
}

// New makes the clients; Connect connects them.
func New(o Options) *Fleet {
	f := &Fleet{opt: o, catalog: newCatalog()}
	for i, n := range o.Nodes {
		c := &client{fleet: f, node: n}
		if len(o.Sources) > 0 {
			c.source = &net.TCPAddr{IP: o.Sources[i%len(o.Sources)].AsSlice()}
		}
		if o.Uses != nil {
			uses := o.Uses(i)
			c.routes, c.clusters = f.ids(Routes, uses.HTTP), f.ids(Clusters, uses.TCP)
		}
		f.clients = append(f.clients, c)
	}
	return f
}

func (f *Fleet) ids(k Kind, names []string) []int32 {
	out := make([]int32, len(names))
	for i, name := range names {
		out[i] = f.catalog.id(k, name)
	}
	return out
}

// demand is the cluster by which a client asks for the scope of a destination, whose routes have an id.
func (f *Fleet) demand(route int32) int32 {
	return f.catalog.id(Clusters, envoy.Demand(f.catalog.name(Routes, route)))
}

// Connect connects all clients at once; those that were connected before tell what they hold. They stay
// connected until Disconnect, also when ctx ends.
func (f *Fleet) Connect(ctx context.Context) {
	ctx, cancel := context.WithCancel(context.WithoutCancel(ctx))
	f.mu.Lock()
	f.begun, f.waiting, f.done, f.failed, f.cancel = time.Now(), len(f.clients), make(chan struct{}), nil, cancel
	f.mu.Unlock()
	for _, c := range f.clients {
		f.running.Go(func() {
			if err := f.serve(ctx, c); ctx.Err() == nil {
				f.fail(fmt.Errorf("%s: %w", c.node.ID(), err))
			}
		})
	}
}

// Envoy's own windows: the control plane is not held back by them.
const (
	streamWindow     = 16 << 20
	connectionWindow = 24 << 20
)

func (f *Fleet) serve(ctx context.Context, c *client) error {
	conn, err := grpc.NewClient("passthrough:///"+f.opt.Address,
		grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithContextDialer(c.dial), grpc.WithNoProxy(), grpc.WithDisableServiceConfig(),
		grpc.WithReadBufferSize(16<<10), grpc.WithWriteBufferSize(4<<10),
		grpc.WithInitialWindowSize(streamWindow), grpc.WithInitialConnWindowSize(connectionWindow),
		grpc.WithDefaultCallOptions(grpc.MaxCallRecvMsgSize(1<<30), grpc.MaxCallSendMsgSize(1<<30), grpc.WaitForReady(true)),
	)
	if err != nil {
		return err
	}
	defer func() { _ = conn.Close() }()
	return c.serve(ctx, conn)
}

func (c *client) dial(ctx context.Context, address string) (net.Conn, error) {
	var d net.Dialer
	if c.source != nil {
		d.LocalAddr = c.source
	}
	conn, err := d.DialContext(ctx, "tcp", address)
	if err != nil {
		return nil, err
	}
	return &countedConn{Conn: conn, in: &c.fleet.in, out: &c.fleet.out}, nil
}

// Disconnect ends all connections and waits until they are gone. What the clients hold they keep.
func (f *Fleet) Disconnect() {
	f.mu.Lock()
	cancel := f.cancel
	f.mu.Unlock()
	if cancel != nil {
		cancel()
	}
	f.running.Wait()
}

func (f *Fleet) fail(err error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.failed == nil {
		f.failed = err
		f.cancel()
	}
}

func (f *Fleet) synced(time.Time) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.waiting--; f.waiting == 0 {
		close(f.done)
	}
}

// AwaitSync waits until every client is in sync, and tells how long after Connect each was, in
// ascending order.
func (f *Fleet) AwaitSync(ctx context.Context) ([]time.Duration, error) {
	f.mu.Lock()
	done, begun := f.done, f.begun
	f.mu.Unlock()
	if err := f.await(ctx, done); err != nil {
		return nil, fmt.Errorf("%w; %s", err, f.laggards())
	}
	out := make([]time.Duration, len(f.clients))
	for i, c := range f.clients {
		c.mu.Lock()
		out[i] = c.syncedAt.Sub(begun)
		c.mu.Unlock()
	}
	slices.Sort(out)
	return out, nil
}

// await waits for a channel, for the first client that fails, or for ctx.
func (f *Fleet) await(ctx context.Context, done <-chan struct{}) error {
	tick := time.NewTicker(100 * time.Millisecond)
	defer tick.Stop()
	for {
		select {
		case <-done:
			return nil
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-tick.C:
			if err := f.Err(); err != nil {
				return err
			}
		}
	}
}

// Err is the failure of the first client that failed; it ended them all.
func (f *Fleet) Err() error {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.failed
}

// laggards names how many clients are not in sync, and one of them with what it lacks.
func (f *Fleet) laggards() string {
	n, one := 0, ""
	for _, c := range f.clients {
		c.mu.Lock()
		late := c.syncedAt.IsZero()
		c.mu.Unlock()
		if late {
			n++
			one = c.missing()
		}
	}
	return fmt.Sprintf("%d of %d clients not in sync, such as %s", n, len(f.clients), one)
}

// Counts are what all clients together have received and sent since the beginning.
type Counts struct {
	In, Out             int64 // bytes at the connections
	Responses           int64 // bytes of responses, without what carries them
	Messages, Resources [int(kinds)]int64
	Removed             [int(kinds)]int64 // names that do not exist, or no longer
}

// Counts now.
func (f *Fleet) Counts() Counts {
	out := Counts{In: f.in.Load(), Out: f.out.Load(), Responses: f.responses.Load()}
	for k := range kinds {
		out.Messages[k], out.Resources[k], out.Removed[k] = f.messages[k].Load(), f.resources[k].Load(), f.removed[k].Load()
	}
	return out
}

// Sub is what came between two counts.
func (c Counts) Sub(before Counts) Counts {
	c.In -= before.In
	c.Out -= before.Out
	c.Responses -= before.Responses
	for k := range kinds {
		c.Messages[k] -= before.Messages[k]
		c.Resources[k] -= before.Resources[k]
		c.Removed[k] -= before.Removed[k]
	}
	return c
}

// Total of what the mesh is made of, of a field by kind.
func Total(byKind [int(kinds)]int64) int64 {
	var n int64
	for k := Clusters; k < probes; k++ {
		n += byKind[k]
	}
	return n
}

func (f *Fleet) count(res *wireResponse) {
	f.responses.Add(int64(res.size))
	f.messages[res.kind].Add(1)
	f.resources[res.kind].Add(int64(len(res.resources)))
	f.removed[res.kind].Add(int64(len(res.removed)))
}

// Quiet waits until no response has come for a while. Connections are never quiet: the server probes them.
func (f *Fleet) Quiet(ctx context.Context, during time.Duration) error {
	last, since := f.responses.Load(), time.Now()
	for time.Since(since) < during {
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-time.After(during / 10):
		}
		if now := f.responses.Load(); now != last {
			last, since = now, time.Now()
		}
	}
	return f.Err()
}

// Holders counts the clients that hold a resource.
func (f *Fleet) Holders(k Kind, name string) int {
	id, n := f.catalog.id(k, name), 0
	for _, c := range f.clients {
		c.mu.Lock()
		if *at(&c.has[k], id) != nil {
			n++
		}
		c.mu.Unlock()
	}
	return n
}

// errLate is the cause of a Watch that did not see all it waited for.
var errLate = errors.New("not every client heard of it")

// Use makes the application of client i call one destination more. It reports whether the client had to ask for its
// scope, as it does at the first call.
func (f *Fleet) Use(i int, destination string) (bool, error) {
	c, id := f.clients[i], f.catalog.id(Routes, destination)
	c.mu.Lock()
	defer c.mu.Unlock()
	if slices.Contains(c.routes, id) || *at(&c.names[Routes], id) != unknown {
		return false, nil
	}
	c.routes = append(c.routes, id)
	return true, c.call([]int32{id})
}
