package ctl

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"time"

	yamlv3 "go.yaml.in/yaml/v3"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/util/sets"
	"sigs.k8s.io/controller-runtime/pkg/client"
	gatewayv1 "sigs.k8s.io/gateway-api/apis/v1"

	"github.com/mizzen-mesh/mizzen/config"
	"github.com/mizzen-mesh/mizzen/internal/ca"
	"github.com/mizzen-mesh/mizzen/xds/mesh"
	"github.com/mizzen-mesh/mizzen/xds/translate"
)

// refer reads a Secret or a ConfigMap. One that cannot be read, as an encrypted Secret, is like one that the files do not have.
func (r *reading) refer(file string, node *yamlv3.Node, gvk schema.GroupVersionKind, asJSON []byte, namespace string) {
	var object client.Object
	switch gvk {
	case corev1.SchemeGroupVersion.WithKind(string(mesh.KindSecret)):
		object = &corev1.Secret{}
	case corev1.SchemeGroupVersion.WithKind(string(mesh.KindConfigMap)):
		object = &corev1.ConfigMap{}
	default:
		return
	}
	if err := json.Unmarshal(asJSON, object); err != nil {
		return
	}
	object.SetNamespace(cmp.Or(object.GetNamespace(), namespace))
	if secret, ok := object.(*corev1.Secret); ok { // as the API server does
		for key, value := range secret.StringData {
			if secret.Data == nil {
				secret.Data = map[string][]byte{}
			}
			secret.Data[key] = []byte(value)
		}
	}
	r.referred = append(r.referred, &fileObject{Object: object, kind: gvk.Kind, file: file, node: node})
}

// outside is what Gateways depend on besides the objects that are listed.
type outside struct {
	// found are Secrets and ConfigMaps of the cluster, and what stands for those that could not be read.
	found objects
	// notes say for which objects something stands.
	notes []string
	// assumed are the objects for which something stands.
	assumed sets.Set[mesh.ID]
	// namespaces are those of which only the names are known.
	namespaces sets.Set[string]
}

// readOutside reads the Secrets and ConfigMaps that the wanted Gateways of our classes name, one by one: to list all Secrets is a
// right that few have. What the user may not read is taken for valid, and so are Secrets where there is no cluster (c is nil):
// certificates are seldom in the files. The control plane makes the GatewayClass, so it need not be in the files either.
//
// Nothing is read if no Gateways are wanted (nil).
func readOutside(ctx context.Context, c client.Client, o objects, missing unread, cfg *config.Mesh, wanted func(mesh.Key) bool) (outside, error) {
	out := outside{assumed: sets.Set[mesh.ID]{}}
	if c == nil || missing[mesh.KindGatewayClass] != nil {
		out.found = append(out.found, &gatewayv1.GatewayClass{
			ObjectMeta: metav1.ObjectMeta{Name: cfg.Gateways.ClassName}, Spec: gatewayv1.GatewayClassSpec{ControllerName: config.ControllerName},
		})
	}
	has := sets.Set[mesh.ID]{}
	for _, object := range o {
		id, _ := translate.IDOf(object)
		has.Insert(id)
	}
	if c == nil || missing[mesh.KindNamespace] != nil {
		out.namespaces = sets.Set[string]{}
		for id := range has {
			if id.Namespace != "" && !has.Has(mesh.ID{Kind: mesh.KindNamespace, Key: mesh.Key{Name: id.Namespace}}) {
				out.namespaces.Insert(id.Namespace)
			}
		}
		for name := range out.namespaces {
			out.found = append(out.found, &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: name}})
		}
	}
	if wanted == nil {
		return out, nil
	}
	refs, parameters := slices.Concat(o, out.found).gatewayRefs(wanted)
	var unseen []string
	for _, ref := range refs {
		object := map[mesh.Kind]client.Object{mesh.KindSecret: &corev1.Secret{}, mesh.KindConfigMap: &corev1.ConfigMap{}}[ref.Kind]
		if object == nil {
			continue
		}
		if c != nil {
			err := c.Get(ctx, client.ObjectKey{Namespace: ref.Namespace, Name: ref.Name}, object)
			switch {
			case err == nil:
				out.found = append(out.found, object)
				continue
			case apierrors.IsNotFound(err) || has.Has(ref):
				continue
			}
			out.notes = append(out.notes, fmt.Sprintf("assuming that %s is valid, because it cannot be read: %v", ref, err))
		} else {
			if has.Has(ref) || ref.Kind != mesh.KindSecret {
				continue
			}
			unseen = append(unseen, ref.Key.String())
		}
		valid, err := validObject(ref, parameters.Has(ref))
		if err != nil {
			return out, err
		}
		out.found = append(out.found, valid)
		out.assumed.Insert(ref)
	}
	if len(unseen) > 0 {
		out.notes = append(out.notes, "assuming that these Secrets have certificates, because the files do not have them: "+strings.Join(unseen, ", "))
	}
	return out, nil
}

// gatewayRefs returns the objects that the wanted Gateways of our classes name, with their classes, ListenerSets and
// BackendTLSPolicies, and which of them are parameters.
func (o objects) gatewayRefs(wanted func(mesh.Key) bool) (refs []mesh.ID, parameters sets.Set[mesh.ID]) {
	parameters = sets.Set[mesh.ID]{}
	classes := map[string]*gatewayv1.GatewayClass{}
	for _, class := range of[*gatewayv1.GatewayClass](o) {
		if class.Spec.ControllerName == config.ControllerName {
			classes[class.Name] = class
			refs = append(refs, mesh.GatewayClassRefs(class)...)
			parameters.Insert(mesh.GatewayClassRefs(class)...)
		}
	}
	gateways := sets.Set[mesh.Key]{}
	for _, gw := range of[*gatewayv1.Gateway](o) {
		key := mesh.Key{Namespace: gw.Namespace, Name: gw.Name}
		if classes[string(gw.Spec.GatewayClassName)] == nil || !wanted(key) {
			continue
		}
		gateways.Insert(key)
		if i := gw.Spec.Infrastructure; i != nil && i.ParametersRef != nil {
			parameters.Insert(mesh.ID{Kind: mesh.KindConfigMap, Key: mesh.Key{Namespace: gw.Namespace, Name: i.ParametersRef.Name}})
		}
		refs = append(refs, mesh.GatewayRefs(gw)...)
	}
	for _, set := range of[*gatewayv1.ListenerSet](o) {
		if gateway, ok := mesh.ListenerSetParent(set); ok && gateways.Has(gateway) {
			refs = append(refs, mesh.ListenerSetRefs(set)...)
		}
	}
	if len(gateways) > 0 {
		for _, policy := range of[*gatewayv1.BackendTLSPolicy](o) {
			refs = append(refs, mesh.BackendTLSRefs(policy)...)
		}
	}
	slices.SortFunc(refs, mesh.ID.Compare)
	return slices.Compact(refs), parameters
}

// validObject returns a Secret or a ConfigMap that is valid wherever a Gateway names it.
func validObject(id mesh.ID, parameters bool) (client.Object, error) {
	meta := metav1.ObjectMeta{Namespace: id.Namespace, Name: id.Name}
	if parameters {
		return &corev1.ConfigMap{ObjectMeta: meta, Data: map[string]string{config.GatewayParametersKey: ""}}, nil
	}
	authority, err := ca.Generate(ca.Options{CommonName: "unread", Now: time.Now(), Lifetime: time.Hour})
	if err != nil {
		return nil, err
	}
	if id.Kind == mesh.KindConfigMap {
		return &corev1.ConfigMap{ObjectMeta: meta, Data: map[string]string{mesh.CAKey: string(authority.CertPEM())}}, nil
	}
	key, err := authority.KeyPEM()
	return &corev1.Secret{ObjectMeta: meta, Type: corev1.SecretTypeTLS, Data: map[string][]byte{
		corev1.TLSCertKey: authority.CertPEM(), corev1.TLSPrivateKeyKey: key,
	}}, err
}
