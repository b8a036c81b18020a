package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/go-modelzoo/zoo/finetune"
)

// keyForm is what every key in JSON looks like, whatever command printed it.
var keyForm = regexp.MustCompile(`^[a-z][a-z0-9]*(_[a-z0-9]+)*$`)

// freeKeys have objects below them whose keys are data: names of options and of metrics.
var freeKeys = map[string]bool{"options": true, "metrics": true}

// badKeys lists the paths to keys that look otherwise.
func badKeys(path string, v any) (bad []string) {
	switch v := v.(type) {
	case map[string]any:
		for k, x := range v {
			if !keyForm.MatchString(k) {
				bad = append(bad, path+"."+k)
			}
			if !freeKeys[k] {
				bad = append(bad, badKeys(path+"."+k, x)...)
			}
		}
	case []any:
		for _, x := range v {
			bad = append(bad, badKeys(path+"[]", x)...)
		}
	}
	return bad
}

func TestKeysInJSONAreOfOneForm(t *testing.T) {
	home, data, folder := imported(t), photos(t, 5), t.TempDir()
	for _, args := range [][]string{
		{"list"}, {"info", "mine"}, {"info", "--system"}, {"summary", "mine"}, {"licenses"}, {"compare", "mine"},
		{"predict", "mine", data}, {"explain", "mine", data, "--out", filepath.Join(folder, "why")}, {"eval", "mine", "--confusion", "--labels", write(t, "labels.csv", []byte(filepath.Join(data, "dark", "a.png")+",1\n"))},
		{"bench", "mine", "--runs", "1", "--duration", "1ms"}, {"bench", "mine", "--runs", "1", "--duration", "1ms", "--explain"},
		{"bench", "mine", "--runs", "1", "--duration", "1ms", "--train"},
		{"finetune", "mine", "--data", data, "--epochs", "1", "--out", "shades"}, {"finetune", "mine", "--data", data, "--epochs", "1", "--dry-run"},
		{"import", checkpoint(t, nil), "--as", "mine", "--model", "resnet20"}, {"pull", "resnet20"}, {"push", "mine", "--to", filepath.Join(folder, "push")},
		{"mirror", "sync", "mine", "--to", filepath.Join(folder, "mirror")}, {"verify"}, {"cache", "ls"}, {"cache", "prune"}, {"cache", "rm", "resnet20"},
		{"plugin", "list"}, {"plugin", "verify"}, {"registry", "check"}, {"doctor"}, {"version"},
	} {
		out := must(t, home, append(args, "-o", "json")...)
		for dec := json.NewDecoder(strings.NewReader(out)); dec.More(); {
			var v any
			if err := dec.Decode(&v); err != nil {
				t.Fatalf("zoo %v: %v: %s", args, err, out)
			}
			if bad := badKeys("", v); len(bad) > 0 {
				t.Errorf("zoo %v prints the keys %v", args, bad)
			}
		}
	}
}

func TestWeightsThatAreNotThereAreLeftOut(t *testing.T) {
	home := t.TempDir()
	if out := must(t, home, "info", "resnet18", "-o", "json"); strings.Contains(out, `"weights"`) {
		t.Errorf("of a model that is not here: %s", out)
	}
	if out := must(t, home, "info", "lenet5", "-o", "json"); strings.Contains(out, `""`) {
		t.Errorf("of an architecture: %s", out)
	}
}

func TestUnknownAccuracyIsNotZero(t *testing.T) {
	out := must(t, t.TempDir(), "compare", "lenet5", "resnet18", "-o", "json")
	if strings.Count(out, `"top1"`) != 1 || strings.Contains(out, `"top1":0`) {
		t.Error(out)
	}
}

func TestSharesInJSONAreInPercentAndInputsAreLists(t *testing.T) {
	home, data := imported(t), photos(t, 8)
	var r struct {
		finetune.Result
		Input  [3]int `json:"input"`
		Folder string `json:"folder"`
	}
	text := must(t, home, "finetune", "mine", "--data", data, "--epochs", "3", "--batch", "4", "--freeze", "features", "--out", "shades", "-o", "json")
	if err := json.Unmarshal([]byte(text), &r); err != nil {
		t.Fatal(err)
	}
	var info struct {
		Input   [3]int             `json:"input"`
		Metrics map[string]float64 `json:"metrics"`
	}
	if err := json.Unmarshal([]byte(must(t, home, "info", "shades", "-o", "json")), &info); err != nil {
		t.Fatal(err)
	}
	if r.Input != info.Input || r.Input != [3]int{3, 32, 32} {
		t.Errorf("the input is %v and %v", r.Input, info.Input)
	}
	for name, v := range map[string]float64{"top1": r.Metrics.Top1, "top5": r.Metrics.Top5, "f1": r.Metrics.F1} {
		if fmt.Sprintf("%.2f", v) != fmt.Sprintf("%.2f", info.Metrics[name]) {
			t.Errorf("%s is %v in what finetune prints and %v in the card", name, v, info.Metrics[name])
		}
	}
	if r.Metrics.Top5 != 100 || r.Last.Top5 != 100 || r.History[0].Val.Top5 != 100 { // of two classes
		t.Errorf("top-5 of two classes is %v, %v, %v", r.Metrics.Top5, r.Last.Top5, r.History[0].Val.Top5)
	}
	lines, err := os.ReadFile(filepath.Join(r.Folder, finetune.FileMetrics))
	if err != nil {
		t.Fatal(err)
	}
	var first finetune.EpochResult
	line, _, _ := bytes.Cut(lines, []byte("\n"))
	if err := json.Unmarshal(line, &first); err != nil {
		t.Fatal(err)
	}
	if first.Val.Top5 != 100 || first.Accuracy != r.History[0].Accuracy || first.Val.Classes[0].Recall != 0 && first.Val.Classes[0].Recall <= 1 {
		t.Errorf("%s: %s, printed: %+v", finetune.FileMetrics, line, r.History[0])
	}
}
