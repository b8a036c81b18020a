// Command zoo-densenet is the plugin of the densenet family.
package main

import (
	"github.com/go-modelzoo/zoo/plugins/densenet"
	"github.com/go-modelzoo/zoo/sdk"
)

func main() { sdk.Serve(densenet.Family()) }
