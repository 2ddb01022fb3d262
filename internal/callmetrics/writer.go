package callmetrics

import (
	"bytes"
	"io"
	"regexp"
	"strconv"
	"strings"

	"github.com/mizzen-mesh/mizzen/internal/answers"
)

// Writer writes Envoy's exposition in Prometheus's text format with the names of this package. What Envoy counts of other clusters
// than those of Services keeps its name, as does all else.
type Writer struct {
	out    io.Writer
	source []byte
	// now is the metric whose lines come, or nil. typeLine is Envoy's for it.
	now      *Metric
	typeLine []byte
	// began is set when a line of now has been written. others are its lines that keep their name: the lines of a metric have to
	// come together.
	began  bool
	others bytes.Buffer
}

// NewWriter returns a Writer for a caller.
func NewWriter(out io.Writer, namespace, workload string) *Writer {
	escape := strings.NewReplacer(`\`, `\\`, `"`, `\"`, "\n", `\n`)
	source := SourceNamespace + `="` + escape.Replace(namespace) + `",` + SourceWorkload + `="` + escape.Replace(workload) + `",`
	return &Writer{out: out, source: []byte(source)}
}

var typePrefix = []byte("# TYPE ")

// Line takes a whole line with its end. The Writer keeps no part of it.
func (w *Writer) Line(line []byte) error {
	if name, ok := bytes.CutPrefix(line, typePrefix); ok {
		if err := w.Flush(); err != nil {
			return err
		}
		name, _, _ = bytes.Cut(name, []byte(" "))
		if w.now = find(name); w.now != nil {
			w.typeLine = append(w.typeLine[:0], line...)
			return nil
		}
	}
	if w.now == nil {
		return w.write(answers.Rename(line))
	}
	renamed, ok := w.rename(line)
	if !ok {
		if w.others.Len() == 0 {
			w.others.Write(w.typeLine)
		}
		w.others.Write(line)
		return nil
	}
	if !w.began {
		w.began = true
		if err := w.write([]byte("# HELP " + w.now.Name + " " + w.now.Help + "\n# TYPE " + w.now.Name + " " + w.now.Kind + "\n")); err != nil {
			return err
		}
	}
	return w.write(renamed)
}

// Flush writes what is left. It is called at the end.
func (w *Writer) Flush() error {
	w.now, w.began = nil, false
	if w.others.Len() == 0 {
		return nil
	}
	err := w.write(w.others.Bytes())
	w.others.Reset()
	return err
}

func (w *Writer) write(b []byte) error {
	_, err := w.out.Write(b)
	return err
}

func find(envoy []byte) *Metric {
	for i := range All {
		if string(envoy) == All[i].Envoy {
			return &All[i]
		}
	}
	return nil
}

// rename returns a series of a Service under its new name, and false for another one, and for a line that is not understood.
func (w *Writer) rename(line []byte) ([]byte, bool) {
	rest, ok := bytes.CutPrefix(line, []byte(w.now.Envoy))
	if !ok {
		return nil, false
	}
	suffix, rest, ok := bytes.Cut(rest, []byte("{"))
	if !ok {
		return nil, false
	}
	end := bytes.LastIndexByte(rest, '}')
	if end < 0 {
		return nil, false
	}
	labels, ok := w.labels(rest[:end])
	if !ok {
		return nil, false
	}
	value := rest[end+1:]
	if w.now.Name == Duration && string(suffix) == "_sum" { // Envoy counts milliseconds
		if value, ok = seconds(bytes.TrimSpace(value)); !ok {
			return nil, false
		}
		value = append(append([]byte(" "), value...), '\n')
	}
	out := make([]byte, 0, len(line)+len(w.now.Name)+len(w.source))
	out = append(out, w.now.Name...)
	out = append(out, suffix...)
	out = append(out, '{')
	out = append(out, w.source...)
	out = append(out, labels...)
	out = append(out, '}')
	return append(out, value...), true
}

var (
	service  = []byte(DestinationService + `="`)
	code     = []byte(`envoy_response_code="`)
	ourCode  = []byte(StatusCode + `="`)
	grpcCall = regexp.MustCompile(`^(?:grpc_status="([^"]*)",destination="outbound/([^/"]+)/([^/"]+)/([0-9]+)"|destination="outbound/([^/"]+)/([^/"]+)/([0-9]+)",grpc_status="([^"]*)")$`)
	// informational are answers before the one that ends a request.
	informational = regexp.MustCompile(`envoy_response_code="10[0-9]"`)
	bound         = regexp.MustCompile(`le="([0-9.e+-]+)"`)
)

// labels returns those of a series of a Service.
func (w *Writer) labels(in []byte) ([]byte, bool) {
	if w.now.Name == GRPCErrors {
		return grpcLabels(in)
	}
	if !bytes.Contains(in, service) {
		return nil, false
	}
	switch w.now.Name {
	case Duration:
		at := bound.FindSubmatchIndex(in)
		if at == nil {
			return in, true
		}
		s, ok := seconds(in[at[2]:at[3]])
		return bytes.Join([][]byte{in[:at[2]], s, in[at[3]:]}, nil), ok
	case Requests:
		return bytes.Replace(in, code, ourCode, 1), !informational.Match(in)
	}
	return in, true
}

// grpcLabels returns those of a series by gRPC status, which Envoy gives in either order.
func grpcLabels(in []byte) ([]byte, bool) {
	m := grpcCall.FindSubmatch(in)
	switch {
	case m == nil:
		return nil, false
	case len(m[2]) == 0: // the other order
		m[1], m[2], m[3], m[4] = m[8], m[5], m[6], m[7]
	}
	return []byte(DestinationNamespace + `="` + string(m[2]) + `",` + DestinationService + `="` + string(m[3]) + `",` +
		DestinationPort + `="` + string(m[4]) + `",` + GRPCStatus + `="` + StatusName(string(m[1])) + `"`), true
}

// seconds returns a number of milliseconds as seconds.
func seconds(ms []byte) ([]byte, bool) {
	v, err := strconv.ParseFloat(string(ms), 64)
	if err != nil {
		return nil, false
	}
	return strconv.AppendFloat(nil, v/1000, 'g', -1, 64), true
}

// statuses are the names of gRPC's statuses by number. https://grpc.github.io/grpc/core/md_doc_statuscodes.html
var statuses = []string{
	"OK", "CANCELLED", "UNKNOWN", "INVALID_ARGUMENT", "DEADLINE_EXCEEDED", "NOT_FOUND", "ALREADY_EXISTS", "PERMISSION_DENIED", "RESOURCE_EXHAUSTED",
	"FAILED_PRECONDITION", "ABORTED", "OUT_OF_RANGE", "UNIMPLEMENTED", "INTERNAL", "UNAVAILABLE", "DATA_LOSS", "UNAUTHENTICATED",
}

// StatusName returns the name of a gRPC status, or the number where it has none.
func StatusName(number string) string {
	if n, err := strconv.ParseUint(number, 10, 8); err == nil && n < uint64(len(statuses)) {
		return statuses[n]
	}
	return number
}
