package webhook

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"mime"
	"net/http"

	"github.com/go-logr/logr"
	admissionv1 "k8s.io/api/admission/v1"
	"sigs.k8s.io/controller-runtime/pkg/webhook/admission"
)

// maxBody is what controller-runtime allows too: two objects of at most 3 MB each and 1 MB for the rest.
const maxBody = 7 << 20

// endpoint reads AdmissionReviews. controller-runtime's own HTTP handler answers 200 to a body that it
// cannot read; here that is a 4xx, which load balancers, probes and people understand.
type endpoint struct {
	webhook *admission.Webhook
	log     logr.Logger
}

// httpError is an answer that is no AdmissionReview.
type httpError struct {
	status  int
	message string
}

func (e *httpError) Error() string { return e.message }

func refuse(status int, format string, args ...any) error {
	return &httpError{status, fmt.Sprintf(format, args...)}
}

func (e *endpoint) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	review, err := readReview(w, r)
	if err != nil {
		status := http.StatusBadRequest
		if refused := (*httpError)(nil); errors.As(err, &refused) {
			status = refused.status
		}
		if status == http.StatusMethodNotAllowed {
			w.Header().Set("Allow", http.MethodPost)
		}
		e.log.Info("bad request", "status", status, "why", err.Error(), "from", r.RemoteAddr)
		http.Error(w, err.Error(), status)
		return
	}
	response := e.webhook.Handle(r.Context(), admission.Request{AdmissionRequest: *review.Request})
	answer := admissionv1.AdmissionReview{TypeMeta: review.TypeMeta, Response: &response.AdmissionResponse}
	w.Header().Set("Content-Type", "application/json")
	if err := json.NewEncoder(w).Encode(answer); err != nil {
		e.log.Error(err, "write the response", "uid", review.Request.UID)
	}
}

func readReview(w http.ResponseWriter, r *http.Request) (*admissionv1.AdmissionReview, error) {
	if r.Method != http.MethodPost {
		return nil, refuse(http.StatusMethodNotAllowed, "method %s: want POST", r.Method)
	}
	contentType := r.Header.Get("Content-Type")
	if mediaType, _, err := mime.ParseMediaType(contentType); err != nil || mediaType != "application/json" {
		return nil, refuse(http.StatusUnsupportedMediaType, "content type %q: want application/json", contentType)
	}
	body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, maxBody))
	if tooLarge := (*http.MaxBytesError)(nil); errors.As(err, &tooLarge) {
		return nil, refuse(http.StatusRequestEntityTooLarge, "body: want at most %d bytes", tooLarge.Limit)
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
