// Package plugins lists the first-party families. They are linked into zoo, which runs them by starting itself again as a plugin
// process, and each is also a plugin of its own (plugins/<family>/cmd).
package plugins

import (
	"github.com/go-modelzoo/zoo/plugins/alexnet"
	"github.com/go-modelzoo/zoo/plugins/convnext"
	"github.com/go-modelzoo/zoo/plugins/densenet"
	"github.com/go-modelzoo/zoo/plugins/efficientnet"
	"github.com/go-modelzoo/zoo/plugins/inception"
	"github.com/go-modelzoo/zoo/plugins/lenet"
	"github.com/go-modelzoo/zoo/plugins/mnasnet"
	"github.com/go-modelzoo/zoo/plugins/mobilenet"
	"github.com/go-modelzoo/zoo/plugins/resnet"
	"github.com/go-modelzoo/zoo/plugins/senet"
	"github.com/go-modelzoo/zoo/plugins/shufflenet"
	"github.com/go-modelzoo/zoo/plugins/squeezenet"
	"github.com/go-modelzoo/zoo/plugins/vgg"
	"github.com/go-modelzoo/zoo/sdk"
)

// All returns the first-party families in alphabetical order.
func All() []sdk.Family {
	return []sdk.Family{
		alexnet.Family(),
		convnext.Family(),
		densenet.Family(),
		efficientnet.Family(),
		inception.Family(),
		lenet.Family(),
		mnasnet.Family(),
		mobilenet.Family(),
		resnet.Family(),
		senet.Family(),
		shufflenet.Family(),
		squeezenet.Family(),
		vgg.Family(),
	}
}
