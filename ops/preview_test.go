package ops_test

import (
	"cmp"
	"flag"
	"fmt"
	"html"
	"math"
	"os"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"
)

// With -preview FILE the panels test draws the dashboard's data as SVG. It is a drawing of ours in the dashboard's layout,
// not Grafana's own.
var preview = flag.String("preview", "", "draw the dashboard's data into this file, as SVG")

const (
	previewWindow = 60 * time.Second
	cell          = 54 // the width of one of Grafana's 24 columns, in pixels
	cellHeight    = 26
	gap           = 8
)

var colours = []string{"#73bf69", "#f2cc0c", "#5794f2", "#ff9830", "#f2495c", "#b877d9", "#37872d", "#fade2a"}

func (p *prom) render(t *testing.T, d *dashboard, file string) {
	t.Helper()
	select {
	case <-time.After(previewWindow):
	case <-t.Context().Done():
		return
	}
	height := 0
	for _, panel := range d.Panels {
		height = max(height, panel.GridPos.Y+panel.GridPos.H)
	}
	var b strings.Builder
	fmt.Fprintf(&b, `<svg xmlns="http://www.w3.org/2000/svg" width="%d" height="%d" font-family="sans-serif" font-size="12" fill="#ccccdc">`,
		24*cell+gap, height*cellHeight+gap)
	b.WriteString(`<rect width="100%" height="100%" fill="#111217"/>`)
	for _, panel := range d.Panels {
		p.draw(t, &b, &panel)
	}
	b.WriteString("</svg>\n")
	if err := os.WriteFile(file, []byte(b.String()), 0o644); err != nil {
		t.Fatal(err)
	}
}

func (p *prom) draw(t *testing.T, b *strings.Builder, panel *panel) {
	x, y := panel.GridPos.X*cell+gap, panel.GridPos.Y*cellHeight+gap
	w, h := panel.GridPos.W*cell-gap, panel.GridPos.H*cellHeight-gap
	fmt.Fprintf(b, "\n"+`<g transform="translate(%d %d)">`, x, y)
	defer b.WriteString("</g>")
	if panel.Type == "row" {
		fmt.Fprintf(b, `<text y="14" font-size="15" font-weight="bold">%s</text>`, panel.Title)
		return
	}
	fmt.Fprintf(b, `<rect width="%d" height="%d" fill="#181b1f" stroke="#2c3235"/><text x="8" y="17" font-weight="bold">%s</text>`, w, h, panel.Title)
	type named struct {
		name string
		series
	}
	var all []named
	for _, q := range panel.Targets {
		window := previewWindow
		if q.Instant {
			window = 0
		}
		found, err := p.ask(substitute(q.Expr), window)
		if err != nil {
			t.Fatal(err)
		}
		for _, s := range found {
			all = append(all, named{legend(q.LegendFormat, s.Metric), s})
		}
	}
	unit := panel.FieldConfig.Defaults.Unit
	last := func(s series) float64 {
		if len(s.Values) == 0 {
			return math.NaN()
		}
		return number(s.Values[len(s.Values)-1])
	}
	switch panel.Type {
	case "stat":
		if len(all) > 0 {
			fmt.Fprintf(b, `<text x="%d" y="%d" font-size="34" text-anchor="middle" fill="#73bf69">%s</text>`, w/2, h/2+24, show(last(all[0].series), unit))
		}
	case "bargauge":
		slices.SortStableFunc(all, func(a, b named) int { return cmp.Compare(last(b.series), last(a.series)) })
		for i, s := range all {
			fmt.Fprintf(b, `<text x="8" y="%d" font-size="11">%s</text><text x="%d" y="%d" font-size="11" text-anchor="end">%s</text>`,
				36+i*15, html.EscapeString(s.name), w-8, 36+i*15, show(last(s.series), unit))
		}
	default:
		top := 0.0
		for _, s := range all {
			for _, v := range s.Values {
				if f := number(v); !math.IsNaN(f) && !math.IsInf(f, 0) {
					top = max(top, f)
				}
			}
		}
		top = cmp.Or(top, 1) * 1.1
		left, right, upper := 62, w-8, 26
		lower := h - 10 - 13*min(len(all), 6)
		for i := range 3 {
			at := lower - (lower-upper)*i/2
			fmt.Fprintf(b, `<path d="M%d %dH%d" stroke="#2c3235"/><text x="%d" y="%d" font-size="10" text-anchor="end">%s</text>`,
				left, at, right, left-4, at+4, show(top*float64(i)/2, unit))
		}
		now := float64(time.Now().UnixMilli()) / 1e3
		for i, s := range all[:min(len(all), 6)] {
			colour, pen := colours[i%len(colours)], "M"
			var path strings.Builder
			for j, v := range s.Values {
				f := number(v)
				if math.IsNaN(f) || math.IsInf(f, 0) {
					pen = "M"
					continue
				}
				px := float64(right) - (now-s.Times[j])/previewWindow.Seconds()*float64(right-left)
				fmt.Fprintf(&path, "%s%.1f %.1f", pen, px, float64(lower)-f/top*float64(lower-upper))
				pen = "L"
			}
			fmt.Fprintf(b, `<path d="%s" fill="none" stroke="%s" stroke-width="1.5"/><text x="%d" y="%d" font-size="10" fill="%s">%s: %s</text>`,
				&path, colour, left, lower+14+13*i, colour, html.EscapeString(s.name), show(last(s.series), unit))
		}
	}
}

var placeholder = regexp.MustCompile(`\{\{(\w+)\}\}`)

// legend is Grafana's legend of a series.
func legend(format string, labels map[string]string) string {
	return placeholder.ReplaceAllStringFunc(format, func(m string) string { return labels[strings.Trim(m, "{}")] })
}

func number(s string) float64 {
	f, err := strconv.ParseFloat(s, 64)
	if err != nil {
		return math.NaN()
	}
	return f
}

// show writes a value in a panel's unit, shortly.
func show(v float64, unit string) string {
	switch unit {
	case "percentunit":
		return strconv.FormatFloat(v*100, 'g', 2, 64) + " %"
	case "bytes", "Bps":
		names := []string{" B", " kB", " MB", " GB"}
		i := 0
		for ; v >= 1000 && i < len(names)-1; i++ {
			v /= 1000
		}
		return strconv.FormatFloat(v, 'f', 1, 64) + names[i] + map[string]string{"Bps": "/s"}[unit]
	case "s":
		if v < 1 {
			return strconv.FormatFloat(v*1000, 'f', 0, 64) + " ms"
		}
		return strconv.FormatFloat(v, 'f', 1, 64) + " s"
	case "cps", "ops":
		return strconv.FormatFloat(v, 'f', 1, 64) + "/s"
	}
	return strconv.FormatFloat(math.Round(v*100)/100, 'f', -1, 64)
}
