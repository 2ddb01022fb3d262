package webhook

import (
	"regexp"
	"strings"

	appsv1 "k8s.io/api/apps/v1"
	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
)

// cronJobRun is the name of a CronJob's Job: the CronJob's and the time of the run, in minutes since 1970.
var cronJobRun = regexp.MustCompile(`^(.+)-[0-9]{8,}$`)

// Workload returns "<kind>/<name>" of the pod's workload as people know it: the Deployment in place of its ReplicaSet,
// the CronJob in place of its Job. It is empty for a pod without a controller. It goes by names, because a pod does not
// name its owner's owner.
func Workload(pod *corev1.Pod) string {
	owner := metav1.GetControllerOf(pod)
	if owner == nil {
		return ""
	}
	switch schema.FromAPIVersionAndKind(owner.APIVersion, owner.Kind).GroupKind() {
	case schema.GroupKind{Group: appsv1.GroupName, Kind: "ReplicaSet"}:
		hash := pod.Labels[appsv1.DefaultDeploymentUniqueLabelKey]
		if name, ok := strings.CutSuffix(owner.Name, "-"+hash); ok && hash != "" {
			return "Deployment/" + name
		}
	case schema.GroupKind{Group: batchv1.GroupName, Kind: "Job"}:
		if match := cronJobRun.FindStringSubmatch(owner.Name); match != nil {
			return "CronJob/" + match[1]
		}
	}
	return owner.Kind + "/" + owner.Name
}
