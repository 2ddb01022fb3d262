// Command mizzenctl is Mizzen's command line tool; its commands are in internal/ctl.
package main

import (
	"fmt"
	"os"

	"github.com/mizzen-mesh/mizzen/internal/ctl"
)

func main() {
	if err := ctl.NewCommand().Execute(); err != nil {
		fmt.Fprintf(os.Stderr, "mizzenctl: %v\n", err)
		os.Exit(1)
	}
}
