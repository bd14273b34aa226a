package main

import (
	"fmt"
	"io"
	"slices"
	"text/tabwriter"
)

// print writes a work's table: for each unit the median, the spread, and how many
// times the first contender's it is.
func (w *work) print(out io.Writer, all outcomes) {
	fmt.Fprintf(out, "\n%s: %s\n", w.name, w.title)
	t := tabwriter.NewWriter(out, 0, 0, 2, ' ', tabwriter.AlignRight)
	fmt.Fprint(t, "\t")
	for _, u := range w.units {
		fmt.Fprintf(t, "%s\tmin..max\tx %s\t", u.name, w.contenders[0].name)
	}
	fmt.Fprintln(t)
	base := all[w.contenders[0].name]
	for _, c := range w.contenders {
		o := all[c.name]
		if o.err != nil {
			fmt.Fprintf(t, "%s\tfailed\t\n", c.name)
			continue
		}
		fmt.Fprintf(t, "%s\t", c.name)
		for i, u := range w.units {
			s := o.values[i]
			fmt.Fprintf(t, "%.*f\t%.*f..%.*f\t", u.decimals, s.median(), u.decimals, slices.Min(s), u.decimals, slices.Max(s))
			if reference := base.values[i].median(); base.err == nil && reference != 0 {
				fmt.Fprintf(t, "%.2f\t", s.median()/reference)
			} else {
				fmt.Fprint(t, "-\t")
			}
		}
		fmt.Fprintln(t)
	}
	t.Flush()
}
