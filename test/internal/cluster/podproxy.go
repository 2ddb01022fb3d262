package cluster

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"strings"

	corev1 "k8s.io/api/core/v1"
)

// Pod names a pod.
type Pod struct{ Namespace, Name string }

// Get calls a pod's port through the API server, which reaches pods wherever the test runs. The
// answer counts whatever its status; the error is for no answer at all.
func (c *Cluster) Get(ctx context.Context, pod Pod, port int, path string) (status int, body []byte, err error) {
	return c.request(ctx, http.MethodGet, pod, port, path, nil)
}

func (c *Cluster) request(ctx context.Context, method string, pod Pod, port int, path string, body []byte) (int, []byte, error) {
	url := fmt.Sprintf("%s/api/v1/namespaces/%s/pods/%s:%d/proxy/%s", c.host, pod.Namespace, pod.Name, port, strings.TrimPrefix(path, "/"))
	req, err := http.NewRequestWithContext(ctx, method, url, bytes.NewReader(body))
	if err != nil {
		return 0, nil, err
	}
	resp, err := c.http.Do(req)
	if err != nil {
		return 0, nil, err
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	return resp.StatusCode, b, err
}

// JSON calls a pod's port and reads the JSON answer into out, unless out is nil. Any status but 200
// is an error.
func (c *Cluster) JSON(ctx context.Context, method string, pod Pod, port int, path string, in, out any) error {
	var body []byte
	if in != nil {
		var err error
		if body, err = json.Marshal(in); err != nil {
			return err
		}
	}
	status, answer, err := c.request(ctx, method, pod, port, path, body)
	if err != nil {
		return err
	}
	if status != http.StatusOK {
		return fmt.Errorf("%s %s:%d%s: status %d: %s", method, pod.Name, port, path, status, bytes.TrimSpace(answer))
	}
	if out == nil {
		return nil
	}
	return json.Unmarshal(answer, out)
}

// FollowLog gives each line of a container's log to f until the container is gone or ctx ends.
func (c *Cluster) FollowLog(ctx context.Context, pod Pod, container string, f func(line string)) error {
	stream, err := c.CoreV1().Pods(pod.Namespace).GetLogs(pod.Name, &corev1.PodLogOptions{Container: container, Follow: true}).Stream(ctx)
	if err != nil {
		return err
	}
	defer stream.Close()
	lines := bufio.NewScanner(stream)
	lines.Buffer(nil, 4<<20)
	for lines.Scan() {
		f(lines.Text())
	}
	return lines.Err()
}
