package world

import (
	"fmt"
	"os"
	"strings"
)

// Quiet returns an error while the namespace has a TCP connection over IPv4 with unacknowledged data.
// https://www.kernel.org/doc/html/latest/networking/proc_net_tcp.html
func (n NS) Quiet() error {
	return n.Do(func() error {
		table, err := os.ReadFile("/proc/thread-self/net/tcp")
		if err != nil {
			return err
		}
		for line := range strings.Lines(string(table)) {
			f := strings.Fields(line)
			if len(f) > 4 && f[3] == "01" && !strings.HasPrefix(f[4], "00000000:") { // ESTABLISHED, tx_queue
				return fmt.Errorf("%s to %s has %s bytes under way", f[1], f[2], f[4])
			}
		}
		return nil
	})
}
