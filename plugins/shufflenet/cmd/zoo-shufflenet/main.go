// Command zoo-shufflenet is the plugin of the shufflenet family.
package main

import (
	"github.com/go-modelzoo/zoo/plugins/shufflenet"
	"github.com/go-modelzoo/zoo/sdk"
)

func main() { sdk.Serve(shufflenet.Family()) }
