"""From acquisitions to pairs: places, rules, ranges, draws."""
