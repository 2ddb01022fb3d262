package webhook

import (
	"encoding/json"
	"fmt"
	"maps"
	"reflect"
	"slices"

	"gomodules.xyz/jsonpatch/v2"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/util/strategicpatch"
)

// Merge applies the difference of before and after to raw, the JSON from which before was decoded (a pod or a pod
// template). Fields that this build's Kubernetes types do not know stay unchanged. Encoding after in its place would
// drop these fields of a newer API server.
func Merge(raw []byte, before, after *corev1.Pod) ([]byte, error) {
	old, err := json.Marshal(before)
	if err != nil {
		return nil, fmt.Errorf("encode the pod: %w", err)
	}
	modified, err := json.Marshal(after)
	if err != nil {
		return nil, fmt.Errorf("encode the injected pod: %w", err)
	}
	difference, err := strategicpatch.CreateTwoWayMergePatch(old, modified, corev1.Pod{})
	if err != nil {
		return nil, fmt.Errorf("compare the pods: %w", err)
	}
	return strategicpatch.StrategicMergePatch(raw, difference, corev1.Pod{})
}

// patchDepth makes the patch write fields of metadata and spec as a whole. Longer paths would contain list indices,
// which shift when containers are added at the front.
const patchDepth = 2

// patch returns the operations, in a fixed order, that turn raw into merged.
func patch(raw, merged []byte) ([]jsonpatch.Operation, error) {
	var a, b map[string]any
	if err := json.Unmarshal(raw, &a); err != nil {
		return nil, fmt.Errorf("decode the pod: %w", err)
	}
	if err := json.Unmarshal(merged, &b); err != nil {
		return nil, fmt.Errorf("decode the injected pod: %w", err)
	}
	return difference("", a, b, patchDepth), nil
}

func difference(path string, a, b map[string]any, depth int) []jsonpatch.Operation {
	var ops []jsonpatch.Operation
	for _, key := range slices.Sorted(maps.Keys(b)) {
		at := path + "/" + key // no field name of a pod holds a character that JSON pointers escape
		before, existed := a[key]
		if existed && reflect.DeepEqual(before, b[key]) {
			continue
		}
		beforeMap, isMap := before.(map[string]any)
		afterMap, stillMap := b[key].(map[string]any)
		if isMap && stillMap && depth > 1 {
			ops = append(ops, difference(at, beforeMap, afterMap, depth-1)...)
		} else {
			ops = append(ops, jsonpatch.NewOperation("add", at, b[key])) // replaces what is there, RFC 6902 4.1
		}
	}
	for _, key := range slices.Sorted(maps.Keys(a)) {
		if _, kept := b[key]; !kept {
			ops = append(ops, jsonpatch.NewOperation("remove", path+"/"+key, nil)) // for example with the last volume
		}
	}
	return ops
}
