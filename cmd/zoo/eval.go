package main

import (
	"fmt"
	"io"
	"path/filepath"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/go-modelzoo/zoo/classifier"
	"github.com/go-modelzoo/zoo/internal/plural"
	"github.com/go-modelzoo/zoo/internal/ui"
	"github.com/go-modelzoo/zoo/vision/dataset"
)

func newEval(a *app) *cobra.Command {
	var data, labels string
	var confusion, skipBad bool
	var batch int
	cmd := &cobra.Command{
		Use:   "eval MODEL --data DIR | --labels FILE.csv",
		Short: "Measure top-1 and top-5 accuracy on labelled images",
		Long: `Measure top-1 and top-5 accuracy on labelled images: a folder a class (--data), or a CSV file of lines "path,class" (--labels) with
paths relative to the file and classes by index or name.`,
		Example: `  zoo eval ants-bees --data hymenoptera/val --confusion
  zoo eval resnet50 --labels labels.csv`,
		Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			if (data == "") == (labels == "") {
				return usagef("say what to evaluate on: either --data DIR or --labels FILE.csv")
			}
			if batch < 1 {
				return usagef("--batch %d: at least 1 image runs", batch)
			}
			c, err := a.open()
			if err != nil {
				return err
			}
			m, err := c.Load(cmd.Context(), args[0], classifier.LoadOptions{Batch: batch})
			if err != nil {
				return err
			}
			defer m.Close()
			var items []classifier.Item
			if labels != "" {
				items, err = csvItems(labels, m)
			} else {
				items, err = a.folderItems(data, m)
			}
			if err != nil {
				return err
			}
			return a.eval(cmd, m, items, confusion, skipBad)
		},
	}
	cmd.Flags().StringVar(&data, "data", "", "folder with a subfolder of images for each class")
	cmd.Flags().StringVar(&labels, "labels", "", "CSV file of lines path,class")
	cmd.Flags().IntVar(&batch, "batch", 8, "images that run together")
	cmd.Flags().BoolVar(&confusion, "confusion", false, "also print the confusion matrix")
	cmd.Flags().BoolVar(&skipBad, "skip-bad", false, "skip images that cannot be read, and count them")
	return cmd
}

func (a *app) eval(cmd *cobra.Command, m *classifier.Model, items []classifier.Item, confusion, skipBad bool) error {
	bars := a.Progress()
	defer bars.Close()
	meter := bars.Items("evaluating", "images", int64(len(items)))
	e, err := m.Evaluate(cmd.Context(), slices.Values(items), classifier.EvalOptions{
		Confusion: confusion, SkipBad: skipBad, Progress: func(done int) { meter.Set(int64(done), 0) },
	})
	if err != nil {
		return err
	}
	meter.Done()
	bars.Close()
	if e.N == 0 {
		return noneRead(e.Skipped)
	}
	return a.Print(e, func(w io.Writer) error {
		fmt.Fprintf(w, "%s: top-1 %.2f %%, top-5 %.2f %%\n", plural.Count(e.N, "image", "images"), e.Top1, e.Top5)
		for _, s := range e.Skipped {
			fmt.Fprintf(w, "skipped: %s\n", s)
		}
		if !confusion {
			return nil
		}
		return printConfusion(w, e.Confusion, m.Labels)
	})
}

// noneRead is the error where every image was skipped.
func noneRead(skipped []string) error {
	return fmt.Errorf("none of %s could be read, the first is: %s", plural.Count(len(skipped), "image", "images"), skipped[0])
}

// printConfusion prints the counts of the classes that occur: a row a true class, a column a predicted one.
func printConfusion(w io.Writer, counts [][]int, labels []string) error {
	occurs := make([]bool, len(counts))
	for i, row := range counts {
		for j, n := range row {
			if n > 0 {
				occurs[i], occurs[j] = true, true
			}
		}
	}
	name := func(i int) string {
		if i < len(labels) {
			return labels[i]
		}
		return fmt.Sprint(i)
	}
	rows := [][]string{{"TRUE \\ PREDICTED"}} // the names of classes stay as they are
	for i := range counts {
		if occurs[i] {
			rows[0] = append(rows[0], name(i))
		}
	}
	for i, row := range counts {
		if !occurs[i] {
			continue
		}
		line := []string{name(i)}
		for j, n := range row {
			if occurs[j] {
				line = append(line, fmt.Sprint(n))
			}
		}
		rows = append(rows, line)
	}
	return ui.Table(w, nil, rows)
}

// csvItems reads lines "path,class".
func csvItems(file string, m *classifier.Model) ([]classifier.Item, error) {
	classes := m.Labels
	for i := len(classes); i < m.Card.Classes; i++ {
		classes = append(classes, fmt.Sprint(i))
	}
	set, err := dataset.CSV(file, classes)
	if err != nil {
		return nil, err
	}
	items := make([]classifier.Item, len(set.Samples))
	for i, s := range set.Samples {
		items[i] = classifier.Item{Name: s.Path, Label: s.Label}
	}
	return items, nil
}

// folderItems lists a folder per class. Folders are matched to classes by name; if none of the names is known and there are as many folders as
// classes, in sorted order, which is said.
func (a *app) folderItems(dir string, m *classifier.Model) ([]classifier.Item, error) {
	set, err := dataset.ImageFolder(dir)
	if err != nil {
		return nil, err
	}
	index := make([]int, len(set.Classes))
	unknown := 0
	var first error
	for i, class := range set.Classes {
		if index[i], err = classifier.ClassIndex(class, m.Labels, m.Card.Classes); err != nil {
			unknown++
			if first == nil {
				first = err
			}
		}
	}
	switch {
	case unknown == 0:
	case unknown == len(set.Classes) && slices.Contains(set.Classes, "train") && (slices.Contains(set.Classes, "val") || slices.Contains(set.Classes, "test")):
		return nil, fmt.Errorf("folder %s holds no classes but parts of a data set (%s): name one of them, as in --data %s", dir, strings.Join(set.Classes, ", "), filepath.Join(dir, set.Classes[unknown-1]))
	case unknown == len(set.Classes) && unknown == m.Card.Classes:
		a.Note("no folder of %s has the name of a class: they are taken in sorted order, from %s for class 0 to %s for class %d", dir, set.Classes[0], set.Classes[unknown-1], unknown-1)
		for i := range index {
			index[i] = i
		}
	default:
		return nil, fmt.Errorf("folder %s: %w", dir, first)
	}
	items := make([]classifier.Item, len(set.Samples))
	for i, s := range set.Samples {
		items[i] = classifier.Item{Name: s.Path, Label: index[s.Label]}
	}
	return items, nil
}
