/* The page's files, which the assembler puts in as they are: core/page/. */
#include <string.h>

#include "core/web_private.h"

#define ASSET(name, file)                                                                                              \
	__asm__(".section .rodata.page,\"a\",%progbits\n"                                                              \
		".global page_" #name "\n.hidden page_" #name "\npage_" #name ":\n"                                    \
		".incbin \"core/page/" file "\"\n"                                                                     \
		".global page_" #name "_end\n.hidden page_" #name "_end\npage_" #name "_end:\n.byte 0\n.previous\n");  \
	extern const char page_##name[], page_##name##_end[]

ASSET(html, "page.html");
ASSET(css, "page.css");
ASSET(js, "page.js");
ASSET(icon, "icon.svg");

struct web_asset {
	const char *url, *type, *data, *end;
};

static const struct web_asset assets[] = {
	{ "/", "text/html; charset=utf-8", page_html, page_html_end },
	{ "/page.css", "text/css; charset=utf-8", page_css, page_css_end },
	{ "/page.js", "text/javascript; charset=utf-8", page_js, page_js_end },
	{ "/icon.svg", "image/svg+xml", page_icon, page_icon_end },
};

/* Nothing but what comes from here, and nothing sent anywhere. */
static const char policy[] =
	"default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; "
	"base-uri 'none'; form-action 'none'; frame-ancestors 'none'";

const struct web_asset *web_asset_find(const char *url)
{
	for (size_t i = 0; i < sizeof(assets) / sizeof(assets[0]); i++)
		if (strcmp(url, assets[i].url) == 0)
			return &assets[i];
	return NULL;
}

struct MHD_Response *web_asset_response(const struct web_asset *a)
{
	struct MHD_Response *r = MHD_create_response_from_buffer((size_t)(a->end - a->data), (void *)(uintptr_t)a->data,
								 MHD_RESPMEM_PERSISTENT);

	web_add_manners(r, a->type);
	if (r != NULL)
		(void)MHD_add_response_header(r, "Content-Security-Policy", policy);
	return r;
}
