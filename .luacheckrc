-- The globals that the program really has: see host/state.c. Nothing in it reads files or loads
-- code, and assignment to a global is an error at run time as well.
local function fields(names)
  local set = {}
  for name in names:gmatch("%S+") do set[name] = {} end
  return { fields = set }
end

stds.luacni = {
  read_globals = {
    "assert", "error", "getmetatable", "ipairs", "next", "pairs", "pcall", "print", "rawequal",
    "rawget", "rawlen", "require", "select", "setmetatable", "tonumber", "tostring", "type",
    "xpcall",
    math = fields [[abs ceil exp floor fmod huge log max maxinteger min mininteger modf random
      sqrt tointeger type ult]],
    string = fields [[byte char find format gmatch gsub len lower match pack packsize rep reverse
      sub unpack upper]],
    table = fields "concat insert move pack remove sort unpack",
    utf8 = fields "char charpattern codepoint codes len offset",
  },
}
stds.library = {
  read_globals = { "rawset", coroutine = fields "close create isyieldable resume running status wrap yield" },
}

std = "luacni"
max_line_length = 110
files["lua/"].std = "luacni+library"
files["lua/luacni/"].std = "lua54"
files["host/"].std = "lua54"
files["spec-tests/"] = { std = "lua54+busted", max_line_length = false }
