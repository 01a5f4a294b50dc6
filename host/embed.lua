-- SPDX-License-Identifier: MIT
-- Build time: compiles every script of the tree and writes OUTPUT.code with all of them,
-- OUTPUT.source with the plugins' text and what the comments say to authors of scripts, and OUTPUT.c with
-- the table of what is where in these.
-- Debug information stays, so errors show file and line.
--   lua5.4 host/embed.lua OUTPUT FILE...
local out = arg[1]

local function read(path)
  local file = assert(io.open(path, "rb"))
  return file:read("a"), file:close()
end

local function write(path, ...)
  local file = assert(io.open(path, "wb"))
  assert(file:write(...))
  assert(file:close())
end

-- The page of a module that scripts use: one that they, or their specs, may require, or one whose functions
-- are verbs.
local verbs = { handle = "handle", namespace = "handle", shaping = "handle", filtering = "handle",
  req = "req" }
local function name_for_authors(module)
  return module:match("^cni/([^/]+)$") or module:match("^luacni/([^/]+)$")
    or verbs[module:match("^cni/engine/(.*)$")]
end

-- Whether a line is one whose comment is for authors: a function of the module, a value of it, or a method of
-- what it gives them, which is a local class with a capital letter.
local function is_told(line)
  return line:find("^function M") or line:find("^M%.") or line:find("^function %u%w+[%w_.]*:")
end

-- The comments for LDoc, each with the line below it, and a line of --- between them. What is marked @local
-- is not for scripts.
local function page_of(source)
  local blocks, block = {}, nil
  for line in source:gmatch("([^\n]*)\n") do
    local comment = line:match("^%-%-%-? ?(.*)")
    if line:find("^%-%-%- ") then
      block = { comment }
    elseif block and comment then
      block[#block + 1] = comment
    elseif block then
      local text, is_head = table.concat(block, "\n"), #blocks == 0
      if is_head or not text:find("@local", 1, true) and (is_told(line) or text:find("@type", 1, true)) then
        blocks[#blocks + 1] = #blocks > 0 and text .. "\n" .. line or text
      end
      block = nil
    end
  end
  return table.concat(blocks, "\n---\n")
end

-- A script without its comments and what its lines begin with, every line where it was. What would be another
-- script then (it has a text of several lines) is left.
local function bare(source, chunk_name)
  local whole = string.dump(load(source, "@" .. chunk_name, "t"))
  local function try(text, pattern, with)
    local shorter = text:gsub(pattern, with)
    local chunk = load(shorter, "@" .. chunk_name, "t")
    return chunk and string.dump(chunk) == whole and shorter or text
  end
  local text = try(try(source, "(\n *)%-%-[^\n]*", "%1"), "\n +%f[\n]", "\n")
  return try(text, "\n +", "\n")
end

local modules, plugins, pages = {}, {}, {}
for i = 2, #arg do
  local path = arg[i]
  local module, plugin = path:match("^lua/(.*)%.lua$"), path:match("^plugins/([^/]*)%.lua$")
  local chunk_name = plugin and plugin .. ".lua" or module .. ".lua"
  local source = read(path)
  local chunk, err = load(source, "@" .. chunk_name, "t")
  if not chunk then
    io.stderr:write(path, ": ", err, "\n")
    os.exit(1)
  end
  local entry = { code = string.dump(chunk) }
  if plugin then
    entry.name, entry.source = plugin, source
    plugins[#plugins + 1] = entry
  else
    entry.name = module:gsub("/", ".")
    -- What a person types can wait to be read until it is typed, and what is off until it is on; specs get
    -- theirs as text, see host.text.
    local folder = module:match("^cni/(%w+)/")
    if folder == "command" or folder == "runtime" or folder == "watch" or module:find("^luacni/") then
      entry.source = bare(source, chunk_name)
    end
    modules[#modules + 1] = entry
    local name = name_for_authors(module)
    if name and pages[name] then
      -- What a file beside it says of itself is for whoever reads the code.
      pages[name].source = pages[name].source .. page_of(source):gsub("^.-(\n%-%-%-\n)", "%1", 1)
    elseif name then
      pages[name] = { name = name, source = page_of(source) }
      pages[#pages + 1] = pages[name]
    end
  end
end

-- The order of strcmp, which looks names up.
os.setlocale("C")
local function by_name(a, b) return a.name < b.name end
table.sort(modules, by_name)
table.sort(plugins, by_name)
table.sort(pages, by_name)

-- Code comes behind the image's place, and is cut off when that is filled: see host/image.h. The
-- sources stay, for `luacni show`.
local blobs = { code = {}, source = {} }
local sizes = { code = 0, source = 0 }
local function place(kind, bytes)
  local offset = sizes[kind]
  table.insert(blobs[kind], bytes)
  sizes[kind] = offset + #bytes
  return offset
end
for _, list in ipairs({ modules, plugins, pages }) do
  for _, entry in ipairs(list) do
    entry.code_at = entry.code and place("code", entry.code)
    entry.source_at = entry.source and place("source", entry.source)
  end
end
for kind, parts in pairs(blobs) do write(out .. "." .. kind, table.concat(parts)) end

local function rows(name, list)
  local lines = {}
  for _, e in ipairs(list) do
    local source = e.source and ("source + %d, %d"):format(e.source_at, #e.source) or "NULL, 0"
    local code = e.code and ("code + %d, %d"):format(e.code_at, #e.code) or "NULL, 0"
    lines[#lines + 1] = ("\t{ %q, %s, %s },\n"):format(e.name, code, source)
  end
  -- An array may not be empty, so each ends in a row that is not counted.
  return ("const struct embedded embedded_%s[] = {\n%s\t{ NULL, NULL, 0, NULL, 0 },\n};\n"
    .. "const size_t embedded_%s_count = %d;\n"):format(name, table.concat(lines), name, #list)
end

local function include(label, section)
  return ('__asm__(".section %s\\n%s:\\n.incbin \\"%s.%s\\"\\n.previous\\n");\n'
    .. "extern const char %s[];\n\n"):format(section, label, out, label, label)
end

write(out .. ".c", '#include "image.h"\n\n', include("code", 'luaimage,\\"aw\\"'),
  include("source", '.rodata.sources,\\"a\\"'), rows("modules", modules), rows("plugins", plugins),
  rows("pages", pages))
