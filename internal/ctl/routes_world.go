package ctl

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"

	discoveryv1 "k8s.io/api/discovery/v1"
	gatewayv1 "sigs.k8s.io/gateway-api/apis/v1"

	"github.com/mizzen-mesh/mizzen/config"
	"github.com/mizzen-mesh/mizzen/xds/mesh"
)

// world reads the files, or the cluster.
func (o *routesOptions) world(ctx context.Context, args []string, stdin io.Reader, stderr io.Writer) (*world, error) {
	if len(o.files) > 0 {
		return o.fileWorld(ctx, args, stdin, stderr)
	}
	c, err := o.connect(&o.clusterFlags)
	if err != nil {
		return nil, err
	}
	found, missing, err := readCluster(ctx, c)
	if err != nil {
		return nil, err
	}
	cfg, err := clusterReader{Client: c, system: o.system, meshConfig: o.meshConfig}.meshOrDefault(ctx, stderr)
	if err != nil {
		return nil, err
	}
	if t, err := o.target(strings.Join(args, "")); err == nil && t.kind == string(mesh.KindGateway) && missing[mesh.KindGateway] != nil {
		return nil, missing[mesh.KindGateway]
	}
	rest, err := readOutside(ctx, c, found, missing, cfg, o.wanted(args))
	if err != nil {
		return nil, err
	}
	if wanted := o.wanted(args); wanted != nil && slices.ContainsFunc(of[*gatewayv1.Gateway](found), func(gw *gatewayv1.Gateway) bool {
		return wanted(mesh.Key{Namespace: gw.Namespace, Name: gw.Name})
	}) {
		rest.notes = append(missing.notes(), rest.notes...)
	}
	w := newWorld(append(found, rest.found...), cfg)
	w.assumed = rest.assumed
	return w, writeNotes(stderr, rest.notes)
}

func (o *routesOptions) fileWorld(ctx context.Context, args []string, stdin io.Reader, stderr io.Writer) (*world, error) {
	cfg, err := loadMesh(o.meshConfig)
	if err != nil {
		return nil, err
	}
	sources, err := readSources(o.files, stdin)
	if err != nil {
		return nil, err
	}
	r := readObjects(sources, cmp.Or(o.namespace, "default")) // not the kubeconfig's: files alone
	var errs []error
	for _, f := range r.findings {
		if f.Severity == severityError {
			errs = append(errs, errors.New(f.line()))
		}
	}
	if err := errors.Join(errs...); err != nil {
		return nil, err
	}
	files := slices.Concat(r.objects, r.referred)
	rest, err := readOutside(ctx, nil, objects{}.with(files), nil, cfg, o.wanted(args))
	if err != nil {
		return nil, err
	}
	w := newWorld(rest.found.with(files), cfg)
	w.assumed = rest.assumed
	return w, writeNotes(stderr, rest.notes)
}

func writeNotes(stderr io.Writer, notes []string) error {
	for _, note := range notes {
		if _, err := fmt.Fprintf(stderr, "note: %s\n", note); err != nil {
			return err
		}
	}
	return nil
}

// endpoints are the EndpointSlices of Services; nil if they are unknown.
func (o *routesOptions) endpoints(ctx context.Context, keys []mesh.Key, stderr io.Writer) map[mesh.Key][]discoveryv1.EndpointSlice {
	if len(o.files) > 0 {
		return nil
	}
	namespace := keys[0].Namespace
	if keys[len(keys)-1].Namespace != namespace {
		namespace = ""
	}
	c, err := o.connect(&o.clusterFlags)
	if err == nil {
		var found map[mesh.Key][]discoveryv1.EndpointSlice
		if found, err = slicesOf(ctx, c, namespace); err == nil {
			return found
		}
	}
	_, _ = fmt.Fprintf(stderr, "note: cannot count endpoints: %v\n", err)
	return nil
}

// loadMesh returns the mesh configuration of a file, or the default.
func loadMesh(path string) (*config.Mesh, error) {
	if path == "" {
		return config.Default(), nil
	}
	return config.Load(path)
}
