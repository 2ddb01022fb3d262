package cluster

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"

	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/util/yaml"
)

// fieldManager of everything that is applied.
const fieldManager = "mizzen-test"

// ApplyFile applies a file of the checkout, unchanged, to a namespace.
func (c *Cluster) ApplyFile(ctx context.Context, namespace, path string) error {
	b, err := os.ReadFile(filepath.Join(c.Root, path))
	if err != nil {
		return err
	}
	if err := c.Apply(ctx, namespace, string(b)); err != nil {
		return fmt.Errorf("%s: %w", path, err)
	}
	return nil
}

// Apply applies every YAML document to a namespace with server-side apply. It stops at the first
// that the API server refuses.
func (c *Cluster) Apply(ctx context.Context, namespace, manifests string) error {
	objects, err := parse(manifests)
	if err != nil {
		return err
	}
	for _, obj := range objects {
		if err := c.applyOne(ctx, namespace, obj); err != nil {
			return fmt.Errorf("%s %s: %w", obj.GetKind(), obj.GetName(), err)
		}
	}
	return nil
}

// parse reads every YAML document; empty ones are left out.
func parse(manifests string) ([]*unstructured.Unstructured, error) {
	var objects []*unstructured.Unstructured
	docs := yaml.NewYAMLOrJSONDecoder(bytes.NewReader([]byte(manifests)), 4096)
	for {
		obj := &unstructured.Unstructured{}
		err := docs.Decode(&obj.Object)
		if errors.Is(err, io.EOF) {
			return objects, nil
		}
		if err != nil {
			return nil, err
		}
		if len(obj.Object) > 0 {
			objects = append(objects, obj)
		}
	}
}

func (c *Cluster) applyOne(ctx context.Context, namespace string, obj *unstructured.Unstructured) error {
	gvk := obj.GroupVersionKind()
	mapping, err := c.mapper.RESTMapping(gvk.GroupKind(), gvk.Version)
	if err != nil {
		return err
	}
	opts := metav1.ApplyOptions{FieldManager: fieldManager, Force: true}
	if mapping.Scope.Name() != meta.RESTScopeNameNamespace {
		_, err = c.Dynamic.Resource(mapping.Resource).Apply(ctx, obj.GetName(), obj, opts)
		return err
	}
	_, err = c.Dynamic.Resource(mapping.Resource).Namespace(namespace).Apply(ctx, obj.GetName(), obj, opts)
	return err
}
