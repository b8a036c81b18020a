package infer

// ArenaBytes returns the memory that the feature maps of one run take.
func (p *Plan) ArenaBytes() int { return p.arena }
