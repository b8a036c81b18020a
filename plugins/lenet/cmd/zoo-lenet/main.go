// Command zoo-lenet is the plugin of the lenet family.
package main

import (
	"github.com/go-modelzoo/zoo/plugins/lenet"
	"github.com/go-modelzoo/zoo/sdk"
)

func main() { sdk.Serve(lenet.Family()) }
