package main

import (
	"bytes"
	"context"
	_ "embed"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"text/template"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/serializer"
	"k8s.io/apimachinery/pkg/util/yaml"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/mizzen-mesh/mizzen/internal/kubescheme"
	"github.com/mizzen-mesh/mizzen/internal/kubetest"
	"github.com/mizzen-mesh/mizzen/internal/xdstest"
	"github.com/mizzen-mesh/mizzen/test/bench/internal/load"
	"github.com/mizzen-mesh/mizzen/test/internal/world"
)

// Addresses and ports of the part without a cluster, as traffic.yaml and byhand.yaml name them.
const (
	nodeIP, gatewayIP, serverIP = "10.88.0.254", "10.88.0.1", "10.88.0.2"
	serverPort                  = 9080
	plainPort, tlsPort          = 8080, 8443
	// Those of the Envoys that are configured by hand.
	handPlainPort, handTLSPort     = 18080, 18443
	inTurnPlainPort, inTurnTLSPort = 28080, 28443

	webHost, grpcHost = "web.example.com", "grpc.example.com"
	controlPlane      = "127.0.0.1:15010"
)

//go:embed traffic.yaml
var trafficObjects string

//go:embed byhand.yaml
var byHandYAML string

var byHandTemplate = template.Must(template.New("byhand.yaml").Option("missingkey=error").Parse(byHandYAML))

// edge is an Envoy that serves clients from outside.
type edge struct {
	*world.Envoy
	name           string
	plain, secured string // host:port
}

// startEdges makes a node with the pod of a gateway, in which all Envoys run, and one with a server. The client is on the node.
func startEdges() ([]edge, error) {
	node, err := world.NewNode(netip.MustParseAddr(nodeIP))
	if err != nil {
		return nil, err
	}
	pods := map[string]world.NS{}
	for _, ip := range []string{gatewayIP, serverIP} {
		if pods[ip], err = node.AddPod(netip.MustParseAddr(ip)); err != nil {
			return nil, err
		}
	}
	l, err := pods[serverIP].Listen(fmt.Sprintf(":%d", serverPort))
	if err != nil {
		return nil, err
	}
	go load.ServeHTTP(l)
	cert, err := newCertificate(webHost, grpcHost)
	if err != nil {
		return nil, err
	}
	byHand, err := startByHand(pods[gatewayIP], cert, handPlainPort, handTLSPort, false)
	if err != nil {
		return nil, fmt.Errorf("the Envoy configured by hand: %w", err)
	}
	inTurn, err := startByHand(pods[gatewayIP], cert, inTurnPlainPort, inTurnTLSPort, true)
	if err != nil {
		return nil, fmt.Errorf("the Envoy configured by hand, in turn: %w", err)
	}
	product, err := startProduct(pods[gatewayIP], cert)
	if err != nil {
		return nil, fmt.Errorf("the gateway's Envoy: %w", err)
	}
	at := func(port int) string { return fmt.Sprintf("%s:%d", gatewayIP, port) }
	return []edge{
		{byHand, handName, at(handPlainPort), at(handTLSPort)},
		{inTurn, inTurnName, at(inTurnPlainPort), at(inTurnTLSPort)},
		{product, mizzenName, at(plainPort), at(tlsPort)},
	}, nil
}

// startByHand starts one that listens at two ports; inTurn is explained in byhand.yaml.
func startByHand(ns world.NS, cert certificate, plain, secured int, inTurn bool) (*world.Envoy, error) {
	return ns.StartEnvoy(1, func(dir string) ([]byte, error) {
		var out bytes.Buffer
		err := byHandTemplate.Execute(&out, map[string]any{
			"Admin": world.AdminSocket(dir), "Ports": map[string]int{"http": plain, "https": secured}, "InTurn": inTurn, "Clusters": []string{"web", "grpc"},
			"Web": webHost, "GRPC": grpcHost,
			"Server": serverIP, "ServerPort": serverPort, "Chain": string(cert.chain), "Key": string(cert.key),
		})
		return out.Bytes(), err
	})
}

// startProduct starts the control plane with the objects, and the Envoy of the Gateway's pod as the agent does.
func startProduct(ns world.NS, cert certificate) (*world.Envoy, error) {
	objects, err := parse(trafficObjects)
	if err != nil {
		return nil, fmt.Errorf("traffic.yaml: %w", err)
	}
	pod := xdstest.Pod("edge", "public-mizzen", netip.MustParseAddr(gatewayIP)) // named like its service account
	objects = append(objects, kubetest.Namespace("edge", nil), pod, xdstest.Pod("edge", "web", netip.MustParseAddr(serverIP)), &corev1.Secret{
		ObjectMeta: metav1.ObjectMeta{Namespace: "edge", Name: "public"}, Type: corev1.SecretTypeTLS,
		Data: map[string][]byte{corev1.TLSCertKey: cert.chain, corev1.TLSPrivateKeyKey: cert.key},
	})
	cp, err := xdstest.Start(xdstest.Options{Objects: objects})
	if err != nil {
		return nil, err
	}
	l, err := ns.Listen(controlPlane)
	if err != nil {
		return nil, err
	}
	if _, err := cp.Serve(l); err != nil {
		return nil, err
	}
	return ns.StartEnvoy(1, func(dir string) ([]byte, error) {
		return world.JSON(world.GatewayBootstrap(context.Background(), dir, cp, pod, controlPlane))
	})
}

// parse reads the objects of a file with several documents.
func parse(text string) ([]client.Object, error) {
	decoder := serializer.NewCodecFactory(kubescheme.New()).UniversalDeserializer()
	documents := yaml.NewYAMLOrJSONDecoder(bytes.NewReader([]byte(text)), 4096)
	var out []client.Object
	for {
		var raw runtime.RawExtension
		if err := documents.Decode(&raw); errors.Is(err, io.EOF) {
			return out, nil
		} else if err != nil {
			return nil, err
		}
		object, err := runtime.Decode(decoder, raw.Raw)
		if err != nil {
			return nil, err
		}
		out = append(out, object.(client.Object))
	}
}
