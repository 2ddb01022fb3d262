// Command mizzenctl is Mizzen's command line tool; its commands are in internal/ctl.
package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/signal"

	"github.com/mizzen-mesh/mizzen/internal/ctl"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	err := ctl.NewCommand().ExecuteContext(ctx)
	stop()
	if err != nil {
		fmt.Fprintf(os.Stderr, "mizzenctl: %v\n", err)
		code := 1
		if exit := (*ctl.ExitError)(nil); errors.As(err, &exit) {
			code = exit.Code
		}
		os.Exit(code)
	}
}
