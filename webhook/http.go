package webhook

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"mime"
	"net/http"
	"net/netip"
	"os"
	"time"

	"github.com/go-logr/logr"
	"github.com/prometheus/client_golang/prometheus"
	"golang.org/x/time/rate"
	admissionv1 "k8s.io/api/admission/v1"
	"sigs.k8s.io/controller-runtime/pkg/webhook/admission"

	"github.com/mizzen-mesh/mizzen/internal/httpjson"
	"github.com/mizzen-mesh/mizzen/internal/netlimit"
)

// endpoint reads AdmissionReviews. controller-runtime's HTTP handler answers 200 to a body that it cannot read. This
// one answers 4xx, which load balancers, probes and people understand.
type endpoint struct {
	// webhooks by path.
	webhooks map[string]*admission.Webhook
	log      logr.Logger
	turns    *netlimit.Limit[netip.Addr]
	// bodyTime is the constant, but in tests.
	bodyTime time.Duration
	refused  *prometheus.CounterVec
	// duration is of requests that were answered with an AdmissionReview.
	duration prometheus.Histogram
	// logged limits the log lines that any client can cause.
	logged *rate.Limiter
}

// httpError is an answer that is not an AdmissionReview.
type httpError struct {
	status  int
	reason  string // for the metric
	message string
}

func (e *httpError) Error() string { return e.message }

func refuse(status int, reason, format string, args ...any) error {
	return &httpError{status, reason, fmt.Sprintf(format, args...)}
}

func (e *endpoint) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	webhook, ok := e.webhooks[r.URL.Path]
	if !ok {
		http.NotFound(w, r)
		return
	}
	arrived := time.Now()
	leave, ok := e.enter(r)
	if !ok {
		w.Header().Set("Retry-After", "1") // which the API server does
		e.refuse(w, r, refuse(http.StatusTooManyRequests, "busy", "mizzen: too many admissions at a time, try again"))
		return
	}
	defer leave()
	review, err := e.readReview(w, r)
	if err != nil {
		e.refuse(w, r, err)
		return
	}
	response := webhook.Handle(r.Context(), admission.Request{AdmissionRequest: *review.Request})
	answer := admissionv1.AdmissionReview{TypeMeta: review.TypeMeta, Response: &response.AdmissionResponse}
	if err := httpjson.Write(w, http.StatusOK, answer); err != nil {
		e.log.Error(err, "write the response", "uid", review.Request.UID)
	}
	e.duration.Observe(time.Since(arrived).Seconds())
}

// enter waits for the request's turn. leave ends it; ok is false if there are too many.
func (e *endpoint) enter(r *http.Request) (leave func(), ok bool) {
	ctx, cancel := context.WithTimeout(r.Context(), turnTime)
	defer cancel()
	return e.turns.Wait(ctx, netlimit.Client(r.RemoteAddr))
}

// refuse answers with an error, counts and logs it.
func (e *endpoint) refuse(w http.ResponseWriter, r *http.Request, err error) {
	why := &httpError{http.StatusBadRequest, "body", err.Error()}
	errors.As(err, &why)
	if why.status == http.StatusMethodNotAllowed {
		w.Header().Set("Allow", http.MethodPost)
	}
	e.refused.WithLabelValues(why.reason).Inc()
	if e.logged.Allow() {
		e.log.Info("bad request", "status", why.status, "why", why.message, "from", r.RemoteAddr)
	}
	http.Error(w, why.message, why.status)
}

func (e *endpoint) readReview(w http.ResponseWriter, r *http.Request) (*admissionv1.AdmissionReview, error) {
	if r.Method != http.MethodPost {
		return nil, refuse(http.StatusMethodNotAllowed, "method", "method %s: want POST", r.Method)
	}
	contentType := r.Header.Get("Content-Type")
	if mediaType, _, err := mime.ParseMediaType(contentType); err != nil || mediaType != "application/json" {
		return nil, refuse(http.StatusUnsupportedMediaType, "content-type", "content type %q: want application/json", contentType)
	}
	_ = http.NewResponseController(w).SetReadDeadline(time.Now().Add(e.bodyTime)) // only connections of tests have none
	body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, maxBody))
	if tooLarge := (*http.MaxBytesError)(nil); errors.As(err, &tooLarge) {
		return nil, refuse(http.StatusRequestEntityTooLarge, "size", "body: want at most %d bytes", tooLarge.Limit)
	}
	if errors.Is(err, os.ErrDeadlineExceeded) {
		return nil, refuse(http.StatusRequestTimeout, "slow", "body: want all of it within %s", e.bodyTime)
	}
	if err != nil {
		return nil, fmt.Errorf("read the body: %w", err)
	}
	if len(body) == 0 {
		return nil, errors.New("empty body: want an AdmissionReview")
	}
	review := &admissionv1.AdmissionReview{}
	if err := json.Unmarshal(body, review); err != nil {
		return nil, fmt.Errorf("body: want an AdmissionReview: %w", err)
	}
	if want := admissionv1.SchemeGroupVersion.WithKind("AdmissionReview"); review.GroupVersionKind() != want {
		return nil, fmt.Errorf("body: apiVersion %q, kind %q: want %q, %q", review.APIVersion, review.Kind, want.GroupVersion(), want.Kind)
	}
	if review.Request == nil || review.Request.UID == "" {
		return nil, errors.New("body: the AdmissionReview has no request with a uid")
	}
	return review, nil
}
