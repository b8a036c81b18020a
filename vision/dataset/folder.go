package dataset

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
)

// extensions are torchvision's IMG_EXTENSIONS.
var extensions = []string{".jpg", ".jpeg", ".png", ".ppm", ".bmp", ".pgm", ".tif", ".tiff", ".webp"}

// IsImage reports whether a file name has one of the extensions that ImageFolder takes: .jpg .jpeg .png .ppm .bmp .pgm .tif
// .tiff .webp, in any case, as in torchvision. (.gif is not among them, although vision decodes it.)
func IsImage(name string) bool {
	return slices.Contains(extensions, strings.ToLower(filepath.Ext(name)))
}

// ImageFolder reads the layout dir/CLASS/.../image.jpg. The classes are the folders in dir in byte order, those with a name
// starting with a dot left out; the samples are in order of their class, then folder, then name.
func ImageFolder(dir string) (*Dataset, error) {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return nil, fmt.Errorf("data folder: %w", err)
	}
	d := new(Dataset)
	for _, e := range entries {
		if strings.HasPrefix(e.Name(), ".") { // an editor's lock is a link that leads nowhere
			continue
		}
		path := filepath.Join(dir, e.Name())
		info, err := os.Stat(path) // follows links
		if err != nil {
			return nil, fmt.Errorf("data folder: %w", err)
		}
		if info.IsDir() {
			d.Classes = append(d.Classes, e.Name())
		}
	}
	if len(d.Classes) == 0 {
		return nil, fmt.Errorf("data folder %s has no folder in it: put the images of each class into a folder named after the class", dir)
	}
	slices.Sort(d.Classes)
	for label, class := range d.Classes {
		before := len(d.Samples)
		if err := d.addFolder(filepath.Join(dir, class), label); err != nil {
			return nil, err
		}
		if len(d.Samples) == before {
			return nil, fmt.Errorf("class folder %s holds no image (%s): add some or remove the folder", filepath.Join(dir, class), strings.Join(extensions, " "))
		}
	}
	return d, nil
}

// addFolder adds the images in root and the folders below it.
func (d *Dataset) addFolder(root string, label int) error {
	images, others, err := Images(root)
	if err != nil {
		return fmt.Errorf("data folder: %w", err)
	}
	for _, path := range images {
		d.Samples = append(d.Samples, Sample{path, label})
	}
	d.Ignored = append(d.Ignored, others...)
	return nil
}

// Images lists the image files (IsImage) in dir and the folders below it, in order of folder, then name, as torchvision does, and apart from them
// the other files. Links to folders are followed, each folder being entered once, so that a loop ends.
func Images(dir string) (images, others []string, err error) {
	folders, err := foldersBelow(dir, map[string]bool{})
	if err != nil {
		return nil, nil, err
	}
	slices.Sort(folders)
	for _, folder := range folders {
		entries, err := os.ReadDir(folder) // sorted by name
		if err != nil {
			return nil, nil, err
		}
		for _, e := range entries {
			path := filepath.Join(folder, e.Name())
			switch {
			case isFolder(path, e):
			case IsImage(path) && isFile(path, e):
				images = append(images, path)
			default:
				others = append(others, path)
			}
		}
	}
	return images, others, nil
}

// foldersBelow lists dir and the folders below it, but those that were seen.
func foldersBelow(dir string, seen map[string]bool) ([]string, error) {
	real, err := filepath.EvalSymlinks(dir)
	if err != nil || seen[real] {
		return nil, err
	}
	seen[real] = true
	entries, err := os.ReadDir(dir)
	if err != nil {
		return nil, err
	}
	folders := []string{dir}
	for _, e := range entries {
		path := filepath.Join(dir, e.Name())
		if !isFolder(path, e) {
			continue
		}
		below, err := foldersBelow(path, seen)
		if err != nil {
			return nil, err
		}
		folders = append(folders, below...)
	}
	return folders, nil
}

func isFolder(path string, e os.DirEntry) bool {
	if e.Type()&os.ModeSymlink == 0 {
		return e.IsDir()
	}
	info, err := os.Stat(path)
	return err == nil && info.IsDir()
}

// isFile says whether a path can be read without waiting for anybody. A broken link is left to the reader of the file.
func isFile(path string, e os.DirEntry) bool {
	if e.Type()&os.ModeSymlink == 0 {
		return e.Type().IsRegular()
	}
	info, err := os.Stat(path)
	return err != nil || info.Mode().IsRegular()
}

// TrainVal reads dir/train and dir/val (or dir/valid, dir/validation, dir/test) as two ImageFolders. The classes of the second
// must be among those of the first and are numbered as there. val is nil where dir has only class folders, which are then
// train.
func TrainVal(dir string) (train, val *Dataset, err error) {
	if info, err := os.Stat(filepath.Join(dir, "train")); err != nil || !info.IsDir() {
		train, err = ImageFolder(dir)
		return train, nil, err
	}
	for _, name := range []string{"val", "valid", "validation", "test"} {
		path := filepath.Join(dir, name)
		if info, err := os.Stat(path); err != nil || !info.IsDir() {
			continue
		}
		if train, err = ImageFolder(filepath.Join(dir, "train")); err != nil {
			return nil, nil, err
		}
		if val, err = ImageFolder(path); err != nil {
			return nil, nil, err
		}
		if val, err = val.WithClasses(train.Classes); err != nil {
			return nil, nil, fmt.Errorf("data folder %s: %w", path, err)
		}
		return train, val, nil
	}
	// A folder "train" alone: its classes without a validation part, unless it is a class itself, beside others.
	if train, err = ImageFolder(filepath.Join(dir, "train")); err == nil {
		return train, nil, nil
	}
	if all, allErr := ImageFolder(dir); allErr == nil && len(all.Classes) > 1 {
		return all, nil, nil
	}
	return nil, nil, err
}
