package e2e

import (
	"fmt"
	"slices"
	"sync"
	"testing"
	"time"

	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/mizzen-mesh/mizzen/config"
)

// jobEnd is how a Job ended: the times from its main container's exit to the sidecar's and to the Job's.
type jobEnd struct{ sidecar, job time.Duration }

// Scenario 6: 100 Jobs complete, each at most 5 s after its main container's exit. Kubernetes itself takes 2 s
// for that, and more on a busy machine, so Jobs without the mesh run among them: where those are slow, the
// others may be slower by what the sidecar may take. Kubernetes notes the times in whole seconds.
func TestJobs(t *testing.T) {
	alone(t)
	const jobs, atOnce, plainEvery = 100, 5, 5
	const limit, sidecarShare, rounding = 5 * time.Second, 2 * time.Second, time.Second
	plain, meshed := newEnv(t, false), newEnv(t, true)
	for _, e := range []*env{plain, meshed} {
		e.server("server", 2)
	}
	for _, e := range []*env{plain, meshed} {
		e.ready("server")
	}
	plain.reachable(plain.client(), httpCall)
	var wg sync.WaitGroup
	var mu sync.Mutex
	ends := map[*env][]jobEnd{}
	room := make(chan struct{}, atOnce)
	run := func(e *env, name string) {
		room <- struct{}{}
		wg.Go(func() {
			defer func() { <-room }()
			end, err := e.job(name)
			mu.Lock()
			defer mu.Unlock()
			if err != nil {
				t.Errorf("%s: %v", e.kind(), err)
				return
			}
			ends[e] = append(ends[e], end)
		})
	}
	for i := range jobs {
		run(meshed, fmt.Sprintf("job-%d", i))
		if i%plainEvery == 0 {
			run(plain, fmt.Sprintf("job-%d", i))
		}
	}
	wg.Wait()
	if len(ends[meshed]) != jobs || len(ends[plain]) == 0 {
		t.Fatalf("%d of %d Jobs completed, and %d without the mesh", len(ends[meshed]), jobs, len(ends[plain]))
	}
	job := func(e jobEnd) time.Duration { return e.job }
	sidecars := lags(ends[meshed], func(e jobEnd) time.Duration { return e.sidecar })
	without, with := lags(ends[plain], job), lags(ends[meshed], job)
	allowed := max(limit, without[len(without)-1]+sidecarShare+rounding)
	figure(t, "Jobs without the mesh, end after the main container's exit", quantiles(without), "what Kubernetes takes")
	figure(t, fmt.Sprintf("%d Jobs, end after the main container's exit", jobs), quantiles(with), fmt.Sprintf("≤ %s", allowed))
	figure(t, "their sidecars, end after the main container's exit", quantiles(sidecars), "≤ 5 s")
	if worst := with[jobs-1]; worst > allowed {
		t.Errorf("a Job took %s to complete after its main container's exit, allowed %s: %v", worst, allowed, with)
	}
	if worst := sidecars[jobs-1]; worst > limit {
		t.Errorf("a sidecar took %s to end after the main container's exit: %v", worst, sidecars)
	}
}

func lags(ends []jobEnd, of func(jobEnd) time.Duration) []time.Duration {
	var d []time.Duration
	for _, e := range ends {
		d = append(d, of(e))
	}
	slices.Sort(d)
	return d
}

// quantiles of sorted durations.
func quantiles(d []time.Duration) string {
	return fmt.Sprintf("median %s, p90 %s, worst %s", median(d), d[len(d)*9/10], d[len(d)-1])
}

// job runs a Job that makes one call and says how it ended. It is called from many goroutines, so it returns
// errors.
func (e *env) job(name string) (jobEnd, error) {
	never := int32(0)
	_, err := e.BatchV1().Jobs(e.ns).Create(e.ctx, &batchv1.Job{
		ObjectMeta: metav1.ObjectMeta{Name: name},
		Spec: batchv1.JobSpec{BackoffLimit: &never, Template: corev1.PodTemplateSpec{Spec: corev1.PodSpec{
			RestartPolicy: corev1.RestartPolicyNever,
			Containers:    []corev1.Container{callOnce("app", httpCall.Target)},
		}}},
	}, metav1.CreateOptions{})
	if err != nil {
		return jobEnd{}, err
	}
	var done *batchv1.Job
	err = e.polled(2*time.Minute, func() (string, error) {
		done, err = e.BatchV1().Jobs(e.ns).Get(e.ctx, name, metav1.GetOptions{})
		if err != nil {
			return "", err
		}
		if done.Status.Failed > 0 {
			return "", fmt.Errorf("job %s failed", name)
		}
		if done.Status.CompletionTime == nil {
			return "job " + name + " is not complete", nil
		}
		return "", nil
	})
	if err != nil {
		return jobEnd{}, err
	}
	ended, err := e.containersEnd("job-name=" + name)
	if err != nil {
		return jobEnd{}, err
	}
	main, proxy := ended["app"], ended[config.ProxyContainer]
	if main.IsZero() || e.meshed && proxy.IsZero() {
		return jobEnd{}, fmt.Errorf("job %s: ends of containers: %v", name, ended)
	}
	return jobEnd{sidecar: proxy.Sub(main), job: done.Status.CompletionTime.Sub(main)}, nil
}

// containersEnd gives when each container of a pod ended.
func (e *env) containersEnd(selector string) (map[string]time.Time, error) {
	pods, err := e.Pods(e.ctx, e.ns, selector)
	if err != nil {
		return nil, err
	}
	ended := map[string]time.Time{}
	for _, p := range pods {
		for _, s := range append(p.Status.InitContainerStatuses, p.Status.ContainerStatuses...) {
			if s.State.Terminated != nil {
				ended[s.Name] = s.State.Terminated.FinishedAt.Time
			}
		}
	}
	return ended, nil
}
