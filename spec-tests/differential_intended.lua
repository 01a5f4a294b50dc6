-- SPDX-License-Identifier: MIT
-- Where ours differs from the reference on purpose. An entry: why, and rules;
-- a rule covers a difference when its patterns match: step, key, reference, ours.

return {
}
