package plaintext

import (
	"errors"
	"io"
	"testing"

	accessdatav3 "github.com/envoyproxy/go-control-plane/envoy/data/accesslog/v3"
	accesslogv3 "github.com/envoyproxy/go-control-plane/envoy/service/accesslog/v3"

	"github.com/mizzen-mesh/mizzen/internal/sds"
)

// A request that goes on for ever is a caller that lives, also where Envoy reads HTTP; that it would be refused is told by
// another log, and counts once.
func TestLongRequestsOfTheMesh(t *testing.T) {
	const caller = "spiffe://example.org/ns/shop/sa/web"
	c := clocked()
	said := func(kind accessdatav3.AccessLogType) *accessdatav3.AccessLogCommon {
		e := entry(kind, "10.0.0.5:4001", "10.0.0.9:80")
		e.TlsProperties = &accessdatav3.TLSProperties{PeerCertificateProperties: &accessdatav3.TLSProperties_CertificateProperties{
			SubjectAltName: []*accessdatav3.TLSProperties_CertificateProperties_SubjectAltName{{
				San: &accessdatav3.TLSProperties_CertificateProperties_SubjectAltName_Uri{Uri: caller},
			}},
		}}
		return e
	}
	read := func(kind accessdatav3.AccessLogType) {
		t.Helper()
		if err := (service{callers: c}).StreamAccessLogs(&stream{messages: []*accesslogv3.StreamAccessLogsMessage{named(sds.MTLSLog, http(said(kind)))}}); !errors.Is(err, io.EOF) {
			t.Fatal(err)
		}
	}
	for _, step := range []struct {
		kind accessdatav3.AccessLogType
		live uint64
	}{{accessdatav3.AccessLogType_DownstreamPeriodic, 1}, {accessdatav3.AccessLogType_DownstreamPeriodic, 1}, {accessdatav3.AccessLogType_DownstreamEnd, 0}} {
		read(step.kind)
		got := c.Snapshot()
		if len(got.MTLS) != 1 || got.MTLS[0].ID != caller || got.MTLS[0].Port != 80 || got.MTLS[0].Live != step.live || len(got.Callers)+len(got.WouldRefuse) > 0 {
			t.Errorf("after %s: %+v", step.kind, got)
		}
	}
}
