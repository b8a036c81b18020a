// Command zoo-convnext is the plugin of the convnext family.
package main

import (
	"github.com/go-modelzoo/zoo/plugins/convnext"
	"github.com/go-modelzoo/zoo/sdk"
)

func main() { sdk.Serve(convnext.Family()) }
