/** What the type checker is to know of the page, and no browser reads. */

/** Made by `theme.js`. */
declare var theme: { readonly current: string; next(): void };

interface HTMLElementTagNameMap {
  search: HTMLElement;
}
