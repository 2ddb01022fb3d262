package webhook

import (
	"testing"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

func TestWorkload(t *testing.T) {
	for name, c := range map[string]struct {
		apiVersion, kind, owner, hash string
		want                          string
	}{
		"a Deployment's":              {"apps/v1", "ReplicaSet", "web-7d4b9", "7d4b9", "Deployment/web"},
		"a ReplicaSet of its own":     {"apps/v1", "ReplicaSet", "web-7d4b9", "", "ReplicaSet/web-7d4b9"},
		"another hash":                {"apps/v1", "ReplicaSet", "web-7d4b9", "d4b9", "ReplicaSet/web-7d4b9"},
		"a CronJob's":                 {"batch/v1", "Job", "report-29123456", "", "CronJob/report"},
		"a CronJob's, more digits":    {"batch/v1", "Job", "report-2-1747407360", "", "CronJob/report-2"},
		"a Job":                       {"batch/v1", "Job", "report-1234567", "", "Job/report-1234567"},
		"a Job with digits, no dash":  {"batch/v1", "Job", "report29123456", "", "Job/report29123456"},
		"a StatefulSet":               {"apps/v1", "StatefulSet", "db-29123456", "29123456", "StatefulSet/db-29123456"},
		"somebody else's kind of Job": {"batch.example.com/v1", "Job", "train-20240101", "", "Job/train-20240101"},
		"no owner":                    {},
	} {
		t.Run(name, func(t *testing.T) {
			pod := &corev1.Pod{}
			if c.hash != "" {
				pod.Labels = map[string]string{"pod-template-hash": c.hash}
			}
			if c.kind != "" {
				pod.OwnerReferences = []metav1.OwnerReference{
					{APIVersion: "v1", Kind: "Other", Name: "no-controller"},
					{APIVersion: c.apiVersion, Kind: c.kind, Name: c.owner, Controller: new(true)},
				}
			}
			if got := Workload(pod); got != c.want {
				t.Errorf("got %q, want %q", got, c.want)
			}
		})
	}
}
