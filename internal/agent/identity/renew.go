package identity

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"strings"
	"time"

	"github.com/mizzen-mesh/mizzen/internal/identity/api"
)

const (
	// firstBackoff doubles with each failure, up to slowBackoff, or busyBackoff while the workload has no
	// certificate and so its pod waits. What is refused is asked again as slowly as the rest of the time.
	firstBackoff = 200 * time.Millisecond
	busyBackoff  = time.Second
	slowBackoff  = 30 * time.Second
	// minRenewal keeps a control plane whose certificates end at once from being asked without a pause.
	minRenewal = time.Second / 2
	// maxSkew is what two clocks may differ by without a word. Validity begins an hour early (ca.Backdate).
	maxSkew = 10 * time.Second
	// clockStep is how often the wall clock is looked at: timers stand still while a machine sleeps.
	clockStep = time.Minute
)

// keepCertificate obtains the first certificate and each next one in time, until ctx ends.
func (i *Identity) keepCertificate(ctx context.Context) {
	for i.obtain(ctx) {
		now := i.current.Load()
		wait := renewAfter(now.life, rand.Float64())
		i.renewal.Store(new(time.Now().Add(wait)))
		i.log.Debug("certificate obtained", "notAfter", now.notAfter, "renewalIn", wait)
		i.untilRenewal(ctx, wait)
	}
}

// renewAfter is a time between 50 % and 70 % of a certificate's life. chance is from 0 to 1.
func renewAfter(life time.Duration, chance float64) time.Duration {
	return max(minRenewal, time.Duration((0.5+0.2*chance)*float64(life)))
}

// untilRenewal waits for its time, a wish to renew now, or the end of ctx.
func (i *Identity) untilRenewal(ctx context.Context, wait time.Duration) {
	start := time.Now()
	due := start.Round(0).Add(wait) // without the monotonic reading: the wall clock
	for left := wait; left > 0 && time.Now().Round(0).Before(due); left = wait - time.Since(start) {
		timer := time.NewTimer(min(left, clockStep))
		select {
		case <-timer.C:
		case <-i.renew:
			timer.Stop()
			return
		case <-ctx.Done():
			timer.Stop()
			return
		}
	}
}

// obtain tries until there is a new certificate. It is false at the end of ctx.
func (i *Identity) obtain(ctx context.Context) bool {
	said := ""
	for failures := 0; ctx.Err() == nil; failures++ {
		err := i.tryOnce(ctx)
		if err == nil {
			i.trouble.Store(nil)
			if failures > 0 {
				i.log.Info("got a new certificate", "failures", failures)
			}
			return true
		}
		if ctx.Err() == nil {
			why := explain(err)
			i.trouble.Store(&why)
			i.complain(&said, err)
			select {
			case i.failed <- struct{}{}:
			default:
			}
			pause(ctx, i.backoff(failures, err))
		}
	}
	return false
}

// tryOnce makes a key and asks for its certificate. It connects first: where nobody is there, no more than that is done.
func (i *Identity) tryOnce(ctx context.Context) (err error) {
	result := resultInvalid
	defer func() {
		if err == nil {
			result = resultSigned
		}
		if ctx.Err() == nil {
			i.metrics.requests.WithLabelValues(result).Inc()
		}
	}()
	asking, cancel := context.WithTimeout(ctx, signTimeout)
	defer cancel()
	conn, err := i.client.dial(asking, "tcp", false)
	if err != nil {
		result = resultUnavailable
		return err
	}
	defer conn.Close()
	token, err := readToken(i.opts.TokenFile)
	if err != nil {
		result = resultToken
		return err
	}
	key, csr, err := newRequest()
	if err != nil {
		return err
	}
	answer, date, err := i.client.certificate(asking, conn, csr, token)
	if err != nil {
		result = resultOf(err)
		return err
	}
	now, skew := serverTime(time.Now(), date)
	certificate, known, err := check(answer, key, i.opts.Namespace, i.opts.ServiceAccount, now)
	if err != nil {
		return fmt.Errorf("%w: %w", errAnswer, err)
	}
	if skew != 0 {
		i.log.Warn("this node's clock differs from the control plane's; connections fail if certificates seem expired or not yet valid", "difference", skew)
	}
	i.applying.Lock()
	defer i.applying.Unlock()
	end := certificate.Leaf.NotAfter
	next := &credentials{roots: known, certificate: certificate, notAfter: end.Add(-skew), life: end.Sub(now)}
	if err := i.apply(next); err != nil {
		return err
	}
	select {
	case <-i.renew: // what was wished for before is done
	default:
	}
	select {
	case <-i.obtained:
	default:
		close(i.obtained)
	}
	return nil
}

func resultOf(err error) string {
	var refused *refusedError
	switch {
	case errors.As(err, &refused) && refused.final():
		return resultRefused
	case errors.Is(err, errAnswer):
		return resultInvalid
	}
	return resultUnavailable
}

// serverTime is the control plane's time, and how far it is ahead of this machine's. Small differences are
// none: an answer's date has whole seconds.
func serverTime(local, date time.Time) (now time.Time, skew time.Duration) {
	if skew = date.Sub(local); date.IsZero() || skew.Abs() <= maxSkew {
		return local, 0
	}
	return date, skew.Round(time.Second)
}

// readToken reads what the kubelet has written last.
func readToken(file string) (string, error) {
	b, err := os.ReadFile(file)
	if err != nil {
		return "", fmt.Errorf("service account token: %w", err)
	}
	token := strings.TrimSpace(string(b))
	if token == "" || len(token) > api.MaxBody/4 || strings.ContainsAny(token, " \r\n\t") {
		return "", fmt.Errorf("service account token: %s is empty", file)
	}
	return token, nil
}

// backoff is between half and the whole of what doubles with each failure. Nothing is waited for longer than
// a tenth of what is left of the certificate.
func (i *Identity) backoff(failures int, err error) time.Duration {
	limit := slowBackoff
	refused := (*refusedError)(nil)
	final := errors.As(err, &refused) && refused.final()
	if now := i.current.Load(); now.certificate == nil && !final {
		limit = busyBackoff
	} else if now.certificate != nil {
		limit = min(limit, max(time.Until(now.notAfter)/10, time.Second))
	}
	wait := min(limit, firstBackoff<<min(failures, 16))
	wait = wait/2 + rand.N(wait/2)
	if refused != nil {
		wait = max(wait, refused.after)
	}
	return wait
}
