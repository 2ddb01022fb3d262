package agent

import (
	"fmt"
	"io"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	tlsv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/transport_sockets/tls/v3"
	discoveryv3 "github.com/envoyproxy/go-control-plane/envoy/service/discovery/v3"
	secretv3 "github.com/envoyproxy/go-control-plane/envoy/service/secret/v3"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"

	"github.com/mizzen-mesh/mizzen/internal/sds"
)

// load asks again and again, each time with a connection of its own.
type load struct {
	mu     sync.Mutex
	done   int
	failed []error
	end    chan struct{}
	once   sync.Once
	ended  sync.WaitGroup
}

func startLoad(url string) *load {
	l := &load{end: make(chan struct{})}
	client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}, Timeout: 5 * time.Second}
	l.ended.Go(func() {
		for {
			select {
			case <-l.end:
				return
			case <-time.After(5 * time.Millisecond):
			}
			err := ask(client, url)
			l.mu.Lock()
			l.done++
			if err != nil {
				l.failed = append(l.failed, err)
			}
			l.mu.Unlock()
		}
	})
	return l
}

func (l *load) stop() (int, []error) {
	l.once.Do(func() { close(l.end) })
	l.ended.Wait()
	return l.done, l.failed
}

func ask(client *http.Client, url string) error {
	res, err := client.Get(url)
	if err != nil {
		return err
	}
	defer res.Body.Close()
	body, err := io.ReadAll(res.Body)
	if err != nil || res.StatusCode != 200 {
		return fmt.Errorf("%d %s %w", res.StatusCode, body, err)
	}
	return nil
}

// lockedBuffer is a log that is read while it is written.
type lockedBuffer struct {
	mu sync.Mutex
	b  strings.Builder
}

func (l *lockedBuffer) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *lockedBuffer) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}

// fetchKey asks the agent for the workload's secret as Envoy does.
func fetchKey(t *testing.T, socket string) []byte {
	t.Helper()
	conn, err := grpc.NewClient("unix:"+socket, grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	stream, err := secretv3.NewSecretDiscoveryServiceClient(conn).StreamSecrets(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if err := stream.Send(&discoveryv3.DiscoveryRequest{TypeUrl: sds.TypeURL, ResourceNames: []string{sds.Workload}}); err != nil {
		t.Fatal(err)
	}
	res, err := stream.Recv()
	if err != nil {
		t.Fatal(err)
	}
	secret := &tlsv3.Secret{}
	if err := res.GetResources()[0].UnmarshalTo(secret); err != nil {
		t.Fatal(err)
	}
	key := secret.GetTlsCertificate().GetPrivateKey().GetInlineBytes()
	if !strings.Contains(string(key), "PRIVATE KEY") {
		t.Fatal("no key in the secret")
	}
	return key
}
