package ctl

import (
	"cmp"
	"fmt"
	"slices"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/mizzen-mesh/mizzen/config"
)

// flagError adds to an error about a flag the probably meant flag, and the command that lists all flags.
func flagError(cmd *cobra.Command, err error) error {
	name, unknown := strings.CutPrefix(err.Error(), "unknown flag: --")
	if unknown {
		var known []string
		cmd.Flags().VisitAll(func(f *pflag.Flag) { known = append(known, f.Name) })
		// Of two equally near flags, prefer the one with the same beginning.
		slices.SortStableFunc(known, func(a, b string) int { return cmp.Compare(beginsAlike(b, name), beginsAlike(a, name)) })
		if near, ok := config.Nearest(name, known); ok {
			return fmt.Errorf("%w; did you mean --%s? %q has all flags", err, near, cmd.CommandPath()+" --help")
		}
	}
	return fmt.Errorf("%w; %q has all flags", err, cmd.CommandPath()+" --help")
}

func beginsAlike(a, b string) int {
	if a != "" && b != "" && a[0] == b[0] {
		return 1
	}
	return 0
}

// helpWithErrors makes help for an unknown command an error.
func helpWithErrors(root *cobra.Command) {
	root.InitDefaultHelpCmd()
	help, _, err := root.Find([]string{"help"})
	if err != nil {
		panic(err) // the line above has made it
	}
	help.Run = nil
	help.RunE = func(_ *cobra.Command, args []string) error {
		cmd, _, err := root.Find(args)
		if err != nil {
			return err
		}
		cmd.InitDefaultHelpFlag()
		return cmd.Help()
	}
}

// noArgs refuses arguments. cobra's own function would call them unknown commands.
func noArgs(cmd *cobra.Command, args []string) error {
	if len(args) == 0 {
		return nil
	}
	return fmt.Errorf("%q: %s takes only flags: %s", args[0], cmd.CommandPath(), cmd.UseLine())
}

// oneArg requires one argument, which what describes.
func oneArg(what string) cobra.PositionalArgs {
	return func(cmd *cobra.Command, args []string) error {
		switch len(args) {
		case 1:
			return nil
		case 0:
			return fmt.Errorf("%s: want %s", cmd.CommandPath(), what)
		}
		return fmt.Errorf("%q: want only %s", args[1], what)
	}
}
