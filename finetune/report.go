package finetune

import (
	"bytes"
	_ "embed"
	"encoding/base64"
	"fmt"
	"html/template"
	"image"
	"image/jpeg"
	"io"
	"math"
	"path/filepath"
	"strings"

	"github.com/go-modelzoo/zoo/vision"
	"github.com/go-modelzoo/zoo/vision/transforms"
)

//go:embed report.html.tmpl
var reportText string

// reportTemplate makes the page. It refers to nothing outside itself.
var reportTemplate = template.Must(template.New("report").Funcs(template.FuncMap{
	"percent": func(v float64) string { return fmt.Sprintf("%.2f %%", 100*v) },
	"number":  func(v float64) string { return fmt.Sprintf("%.4g", v) },
	"deref":   func(v *float64) float64 { return *v },
	"inc":     func(i int) int { return i + 1 },
	"command": func(words []string) string { return strings.Join(quoted(words), " ") },
}).Parse(reportText))

// reportData is what the page shows.
type reportData struct {
	*Result
	Model    string
	Weights  string
	Charts   []chart
	Mistakes []reportMistake
	Cells    [][]reportCell
}

type reportMistake struct {
	Mistake
	Name  string
	Image template.URL // empty where there is no picture
}

type reportCell struct {
	N     int
	Shade float64 // 0 to 1, of the row
	Right bool
}

// thumbnailSide is the shorter side of the mistakes' pictures, of which the longer is at most four times that.
const thumbnailSide = 112

func writeReport(res *Result, mistakes []Mistake, m Model) error {
	d := reportData{Result: res, Model: m.Name, Weights: filepath.Base(m.Weights), Charts: charts(res)}
	if m.Weights == "" || res.Strategy == StrategyScratch {
		d.Weights = "random"
	}
	for _, x := range mistakes {
		uri, _ := thumbnail(x.Path) // none if the file has gone since it was read: that must not cost the result
		d.Mistakes = append(d.Mistakes, reportMistake{x, filepath.Base(x.Path), uri})
	}
	for i, row := range res.Metrics.Confusion {
		sum := 0
		for _, n := range row {
			sum += n
		}
		cells := make([]reportCell, len(row))
		for j, n := range row {
			cells[j] = reportCell{n, share(n, sum), i == j}
		}
		d.Cells = append(d.Cells, cells)
	}
	return writeFile(res.Report, func(w io.Writer) error { return reportTemplate.Execute(w, d) })
}

// thumbnail returns a small JPEG of an image as a data URI.
func thumbnail(path string) (template.URL, error) {
	img, err := vision.DecodeFile(path, vision.Limits{})
	if err != nil {
		return "", err
	}
	small, err := transforms.Resize{Size: thumbnailSide, MaxSize: 4 * thumbnailSide}.Apply(img, transforms.NewScratch())
	if err != nil {
		return "", err
	}
	var b bytes.Buffer
	if err := jpeg.Encode(&b, image.Image(small.NRGBA()), &jpeg.Options{Quality: 80}); err != nil {
		return "", err
	}
	return template.URL("data:image/jpeg;base64," + base64.StdEncoding.EncodeToString(b.Bytes())), nil
}

// quoted writes words for a shell.
func quoted(words []string) []string {
	out := make([]string, len(words))
	for i, w := range words {
		if out[i] = w; w == "" || strings.ContainsAny(w, " \t\n'\"$&|;<>()*?[]{}!#~\\`") {
			out[i] = "'" + strings.ReplaceAll(w, "'", `'\''`) + "'"
		}
	}
	return out
}

// chart is a plot of curves over the epochs, in a box of chartWidth by chartHeight.
type chart struct {
	Title  string
	Lines  []chartLine
	YTicks []chartTick
	XTicks []chartTick
	Best   float64 // x of the best epoch
}

type chartLine struct {
	Name, Color string
	Points      string // of an SVG polyline
	Last        string
}

type chartTick struct {
	At   float64
	Text string
}

const (
	chartWidth, chartHeight = 420., 220.
	chartColorTrain         = "#c2410c"
	chartColorVal           = "#1d4ed8"
)

// charts draws loss, accuracy and learning rate.
func charts(res *Result) []chart {
	n := len(res.History)
	series := func(f func(*EpochResult) float64) []float64 {
		v := make([]float64, n)
		for i := range v {
			v[i] = f(&res.History[i])
		}
		return v
	}
	plot := func(title, format string, names []string, values ...[]float64) chart {
		low, high := math.Inf(1), math.Inf(-1)
		for _, v := range values {
			for _, y := range v {
				low, high = min(low, y), max(high, y)
			}
		}
		if high <= low {
			low, high = low-math.Abs(low)/2-1e-9, high+math.Abs(high)/2+1e-9
		}
		x := func(i int) float64 { return chartWidth * (float64(i) + 0.5) / float64(n) }
		y := func(v float64) float64 { return chartHeight * (high - v) / (high - low) }
		c := chart{Title: title, Best: x(res.Best - 1)}
		for k, v := range values {
			var points []string
			for i := range v {
				points = append(points, fmt.Sprintf("%.1f,%.1f", x(i), y(v[i])))
			}
			color := chartColorTrain
			if k == 1 {
				color = chartColorVal
			}
			c.Lines = append(c.Lines, chartLine{names[k], color, strings.Join(points, " "), fmt.Sprintf(format, v[n-1])})
		}
		for k := range 5 {
			v := low + (high-low)*float64(k)/4
			c.YTicks = append(c.YTicks, chartTick{y(v), fmt.Sprintf(format, v)})
		}
		for i := 0; i < n; i += max(1, (n+9)/10) {
			c.XTicks = append(c.XTicks, chartTick{x(i), fmt.Sprint(i + 1)})
		}
		return c
	}
	both := []string{"training", "validation"}
	return []chart{
		plot("Loss", "%.3f", both, series(func(e *EpochResult) float64 { return e.Loss }), series(func(e *EpochResult) float64 { return e.Val.Loss })),
		plot("Accuracy, %", "%.1f", both, series(func(e *EpochResult) float64 { return 100 * e.Accuracy }), series(func(e *EpochResult) float64 { return 100 * e.Val.Top1 })),
		plot("Learning rate", "%.2g", []string{"at the epoch's end"}, series(func(e *EpochResult) float64 { return e.LR })),
	}
}
