//go:build !unix

package finetune

import "errors"

func limitFileSize(uint64) error { return errors.New("this system cannot limit the size of files") }
